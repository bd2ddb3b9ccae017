"""Score tables, and random labels, probabilities and decisions of three outputs."""

import numpy as np
import pandas as pd
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


def decided_table(y_true, probability, outputs, *, predicted=None, **columns):
    """Build a score table with decisions from labels and probabilities [n, k]; images are named by their number."""
    names = [f"{number:04}" for number in range(len(y_true))]
    table = pd.DataFrame({"source": "nih", "image": names, "sha256": names, "patient_id": names, **columns})
    decisions = probability >= 0.5 if predicted is None else predicted
    for column, output in enumerate(outputs):
        table[f"true_{output}"] = y_true[:, column]
        table[f"score_{output}"] = table[f"probability_{output}"] = probability[:, column]
        table[f"predicted_{output}"] = decisions[:, column]
    return table
