"""Random labels, probabilities and decisions of three outputs."""

import numpy as np
from scipy.special import expit, softmax


def draw_labels(n_images, *, seed=0, unknown=0.2):
    """Draw labels of three findings, some of them unknown, with probabilities and decisions."""
    rng = np.random.default_rng(seed)
    y_true = (rng.random((n_images, 3)) < 0.4).astype(float)
    probability = expit(1.5 * y_true - 0.6 + rng.normal(size=y_true.shape))
    y_true[rng.random(y_true.shape) < unknown] = np.nan
    return y_true, probability, probability >= 0.4


def draw_classes(n_images, *, seed=0):
    """Draw one-hot labels of three classes, probabilities that sum to one, and the most probable class."""
    rng = np.random.default_rng(seed)
    y_true = np.eye(3)[rng.choice(3, size=n_images, p=(0.6, 0.3, 0.1))]
    probability = softmax(1.5 * y_true + rng.normal(size=y_true.shape), axis=1)
    return y_true, probability, np.eye(3)[probability.argmax(axis=1)] == 1
