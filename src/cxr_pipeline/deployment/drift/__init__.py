"""Drift detection: compare new images with the training images of a model.

Five families of two-sample tests compare the statistics of the prepared pixels, the network's features, its scores, the
prevalence of each label, and the calibration. Each model version carries a reference profile of its own images.
"""
