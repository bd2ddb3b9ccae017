"""Training of networks on prepared images; start reading at `fitting`."""
