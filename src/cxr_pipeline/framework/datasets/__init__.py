"""Datasets of the catalog. Each keeps one path, and replaces what is there only when the new content is complete."""
