"""Image processing: decoding, resolution, morphology, and the store of prepared images."""
