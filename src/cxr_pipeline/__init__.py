"""Chest X-ray classifiers that can be trusted, compared, versioned and retrained."""

__version__ = "0.1.0"
