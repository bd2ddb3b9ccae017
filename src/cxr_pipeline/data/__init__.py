"""Sources of images and labels, prepared images, splits and sampling plans."""
