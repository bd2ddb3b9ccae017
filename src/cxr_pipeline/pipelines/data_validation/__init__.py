"""Find data changes and decide whether to train on them."""
