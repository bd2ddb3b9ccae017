"""How far from 0.5 the AUC of a model goes that cannot know the labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_CHUNK = 2**22


def mean_auc(y_true: NDArray[np.floating], y_score: NDArray[np.floating]) -> NDArray[np.float64]:
    """AUC of each output over its known labels, then their mean, for many labellings of the same images at once.

    Args:
        y_true: labels [b, n, k], 0, 1 or NaN for unknown.
        y_score: scores [n, k]; ties count half.

    Returns:
        Means over the outputs with known labels of both values, [b]; NaN where no output has them.

    Example:
        >>> mean_auc(np.array([[[0.0], [0.0], [1.0], [1.0]]]), np.array([[0.1], [0.4], [0.35], [0.8]]))
        array([0.75])
    """
    of_outputs = np.stack(
        [_auc(y_true[:, :, place], y_score[:, place]) for place in range(y_score.shape[1])], axis=1
    )  # fmt: skip
    known = ~np.isnan(of_outputs)
    with np.errstate(invalid="ignore"):
        means: NDArray[np.float64] = np.where(known, of_outputs, 0).sum(axis=1) / known.sum(axis=1)
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
    """The distance from 0.5 that the mean AUC keeps if the scores know nothing of the labels.

    The labels are permuted again and again while the scores stay. Where labels had been permuted image by image before
    the training, that is the very distribution of the AUC, given the scores: whatever images of one patient have in
    common, their labels are exchangeable, so that patients make it no wider. Ties, few positives and outputs that
    go together are in it too.

    Args:
        y_true: labels [n, k], 0, 1 or NaN for unknown; an image's labels stay together.
        y_score: scores [n, k].
        contents: number of each image's content [n]; images of equal content have equal labels.
        false_alarms: how often the distance may be exceeded by chance, in (0, 1).
        permutations: drawn.
        seed: of the draws.

    Returns:
        The distance; NaN where no output has known labels of both values.

    References:
        Good, "Permutation, parametric and bootstrap tests of hypotheses", 2005, chapter 3.
        Ojala and Garriga, "Permutation tests for studying classifier performance", JMLR 11, 2010.
    """
    _, first, content = np.unique(contents, return_index=True, return_inverse=True)
    rng, labels = np.random.default_rng(seed), y_true[first]
    at_once = max(1, _CHUNK // y_true.size)
    distances = []
    for start in range(0, permutations, at_once):
        rows = np.tile(np.arange(len(labels)), (min(at_once, permutations - start), 1))
        permuted = labels[rng.permuted(rows, axis=1)][:, content]
        distances.append(np.abs(mean_auc(permuted, y_score) - 0.5))
    return float(np.quantile(np.concatenate(distances), 1 - false_alarms, method="higher"))


def _auc(y_true: NDArray[np.floating], y_score: NDArray[np.floating]) -> NDArray[np.float64]:
    """AUC [b] of one output by counting pairs (Mann-Whitney); labels [b, n], scores [n]."""
    order = np.argsort(y_score, kind="stable")
    new_score = np.flatnonzero(np.diff(y_score[order], prepend=-np.inf))
    positive, negative = (
        np.add.reduceat((y_true[:, order] == value).astype(float), new_score, axis=1) for value in (1, 0)
    )
    below = np.cumsum(negative, axis=1) - negative
    pairs = positive.sum(axis=1) * negative.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        auc: NDArray[np.float64] = (positive * (below + negative / 2)).sum(axis=1) / pairs
    return auc
