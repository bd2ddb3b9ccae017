"""Kedro datasets that write atomically: tables, documents, figures, films and models."""
