"""Drift: whether new films are still like those that a model was trained on.

What is compared, from the films to the labels: statistics of the prepared pixels, the model's feature space, its
scores, prevalence, calibration. `reference` makes the profile of a model's own films, `detection` compares new films
with it.
"""
