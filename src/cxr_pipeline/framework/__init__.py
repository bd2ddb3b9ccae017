"""Kedro-specific code: configuration, hooks, datasets, commands and processes."""
