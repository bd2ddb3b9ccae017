"""Kedro datasets that write atomically: tables, documents, figures, images and models."""
