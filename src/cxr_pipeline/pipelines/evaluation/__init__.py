"""Evaluate the model on the test images."""
