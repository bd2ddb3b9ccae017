"""Networks, their heads, losses and optimizers, and the files of pretrained weights."""
