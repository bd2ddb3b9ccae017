"""Drift detection: compare new images with the training images of a model."""
