"""Apply the configured image operations to the prepared images."""
