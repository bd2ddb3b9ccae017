"""From sources of images and labels to prepared images, splits and sampling plans."""
