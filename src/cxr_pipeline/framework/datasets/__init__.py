"""Datasets of the catalog. Each replaces its file or folder only when the new content is complete."""
