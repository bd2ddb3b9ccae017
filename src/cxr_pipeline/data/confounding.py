"""How well the source of an image alone predicts its class.

Where one hospital gives most of the ill and another most of the well, a model can tell the hospital instead of the
disease, and looks good on a test that is mixed in the same way.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr_pipeline.data.splits import select_split

CONFOUNDED_AUC = 0.6
"""The AUC of the source alone, for any class, from which source and class are called confounded (0.5 is chance)."""


def source_baseline(manifest: pd.DataFrame, splits: pd.DataFrame, *, outputs: Sequence[str]) -> dict[str, Any] | None:
    """Predict the classes of the test images from nothing but their source.

    The score of an image is how frequent a class is among the training images of its source, with one image of the average
    source added to each (additive smoothing), so that a source without training images scores as all together do.

    Args:
        manifest: the usable images.
        splits: from ``splits.assign_splits``.
        outputs: the classes that a model gives a score for.

    Returns:
        None where there are fewer than two sources. Else JSON-able: ``auc`` (mean over the classes that have one),
        ``per_class`` (for each output ``auc``; None where the test images do not have both kinds), ``accuracy`` of
        each source's most frequent class and ``majority_accuracy`` of the most frequent class of all (None where a
        image may have several classes), ``n_images`` (for each class how many images of each source have it, over all
        splits), ``confounded`` (whether any AUC reaches ``threshold``) and ``threshold``.

    Example:
        >>> source_baseline(manifest, splits, outputs=["pneumonia"])["confounded"]  # doctest: +SKIP
        True
    """
    if manifest["source"].nunique() < 2:
        return None
    labels = [str(column) for column in manifest.filter(regex="^label_").columns]
    train, test = (select_split(manifest, splits, split) for split in ("train", "test"))
    score = _score(train, test, labels)
    aucs = {name: _auc(test[f"label_{name}"].to_numpy(), score[f"label_{name}"].to_numpy()) for name in outputs}
    known = [auc for auc in aucs.values() if auc is not None]
    exclusive = bool((manifest[labels].sum(axis=1) == 1).all() and manifest[labels].notna().all(axis=None))
    majority = train[labels].mean().to_numpy()
    by_source = manifest[labels].eq(1).groupby(manifest["source"]).sum()
    return {
        "auc": float(np.mean(known)) if known else None,
        "per_class": {name: {"auc": auc} for name, auc in aucs.items()},
        "accuracy": _accuracy(test[labels], score.to_numpy()) if exclusive else None,
        "majority_accuracy": _accuracy(test[labels], np.tile(majority, (len(test), 1))) if exclusive else None,
        "n_images": {
            label.removeprefix("label_"): {str(source): int(n) for source, n in by_source[label].items()}
            for label in labels
        },
        "confounded": any(auc >= CONFOUNDED_AUC for auc in known),
        "threshold": CONFOUNDED_AUC,
    }


def _score(train: pd.DataFrame, test: pd.DataFrame, labels: list[str]) -> pd.DataFrame:
    """P(class | source) of each test image, [n, k]; NaN for a class of which no training image is known."""
    overall = train[labels].mean()
    by_source = train.groupby("source")[labels]
    frequencies = (by_source.sum() + overall) / (by_source.count() + 1)
    return frequencies.reindex(test["source"]).fillna(overall).set_axis(test.index)


def _auc(y_true: NDArray[np.float64], y_score: NDArray[np.float64]) -> float | None:
    from sklearn.metrics import roc_auc_score

    usable = ~np.isnan(y_true) & ~np.isnan(y_score)
    if len(np.unique(y_true[usable])) < 2:
        return None
    return float(roc_auc_score(y_true[usable], y_score[usable]))


def _accuracy(truth: pd.DataFrame, score: NDArray[np.float64]) -> float | None:
    """The fraction of n images whose class, of k, has the highest score; None without images."""
    right = truth.to_numpy().argmax(axis=1) == score.argmax(axis=1)
    return float(right.mean()) if len(right) else None
