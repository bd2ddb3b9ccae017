"""Distance of the AUC from 0.5 that is expected by chance if a model knows nothing about the labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

# Labels held in memory at a time.
_CHUNK = 2**22


def mean_auc(y_true: NDArray[np.floating], y_score: NDArray[np.floating]) -> NDArray[np.float64]:
    """Compute the mean AUC over the outputs [b], for many labellings of the same images at once.

    Labels [b, n, k] are 0, 1 or NaN for unknown; ties of the scores [n, k] count half. Outputs without both positive
    and negative labels do not count; without any other, the mean is NaN.

    Example:
        >>> mean_auc(np.array([[[0.0], [0.0], [1.0], [1.0]]]), np.array([[0.1], [0.4], [0.35], [0.8]]))
        array([0.75])
    """
    positive, known = y_true == 1, ~np.isnan(y_true)
    # The AUC is the statistic of Mann and Whitney, computed from the ranks of the scores.
    ranks = stats.rankdata(np.where(known, y_score, np.nan), axis=1, nan_policy="omit")
    n_positive = positive.sum(axis=1)
    n_negative = known.sum(axis=1) - n_positive
    wins = np.where(positive, ranks, 0).sum(axis=1) - n_positive * (n_positive + 1) / 2
    aucs = np.ma.masked_invalid(np.ma.divide(wins, n_positive * n_negative))
    means: NDArray[np.float64] = aucs.mean(axis=1).filled(np.nan)
    return means


def null_bound(
    y_true: NDArray[np.floating],
    y_score: NDArray[np.floating],
    *,
    contents: NDArray[np.intp],
    false_alarms: float,
    permutations: int,
    seed: int,
) -> float:
    """Compute the distance of the mean AUC from 0.5 by chance, by permuting the labels while the scores stay fixed.

    If the labels were permuted image by image before training, this is the exact distribution of the AUC given the
    scores: images of the same patient have exchangeable labels too, so that patients do not widen it. It accounts for
    ties, few positives and correlated outputs.

    The labels [n, k] of an image, 0, 1 or NaN for unknown, stay together, and images with equal ``contents`` [n] have
    equal labels. A larger distance has the probability ``false_alarms``, in (0, 1).

    References:
        Good, "Permutation, parametric and bootstrap tests of hypotheses", 2005, chapter 3.
        Ojala and Garriga, "Permutation tests for studying classifier performance", JMLR 11, 2010.
    """
    _, first, content = np.unique(contents, return_index=True, return_inverse=True)
    rng, labels = np.random.default_rng(seed), y_true[first]
    chunk = max(1, _CHUNK // y_true.size)
    distances = []
    for start in range(0, permutations, chunk):
        rows = np.tile(np.arange(len(labels)), (min(chunk, permutations - start), 1))
        permuted = labels[rng.permuted(rows, axis=1)][:, content]
        distances.append(np.abs(mean_auc(permuted, y_score) - 0.5))
    return float(np.quantile(np.concatenate(distances), 1 - false_alarms, method="higher"))
