"""Compute and evaluate heat maps."""
