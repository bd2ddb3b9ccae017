"""Drift: whether new images are still like those that a model was trained on.

What is compared, from the images to the labels: statistics of the prepared pixels, the model's feature space, its
scores, prevalence, calibration. `reference` makes the profile of a model's own images, `detection` compares new images
with it.
"""
