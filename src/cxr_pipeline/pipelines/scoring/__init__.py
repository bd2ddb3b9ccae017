"""Score new images with a registered model version."""
