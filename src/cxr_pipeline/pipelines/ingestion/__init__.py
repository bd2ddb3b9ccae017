"""Ingestion stage: list the images of all sources in one table."""
