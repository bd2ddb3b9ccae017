"""Compare new images with the training images of a registered model version."""
