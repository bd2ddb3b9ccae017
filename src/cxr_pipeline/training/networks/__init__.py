"""Networks, their heads, losses and optimisers, and where pretrained weights come from."""
