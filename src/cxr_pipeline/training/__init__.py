"""Training of networks on prepared images; `fitting` is the entry point."""
