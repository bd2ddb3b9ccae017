"""The sanity stage."""
