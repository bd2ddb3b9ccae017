"""Confounding of source and class: how well the source of an image alone predicts its class.

If one hospital contributes most of the positive images and another most of the negative ones, a model can recognise the
hospital instead of the disease, and still scores well on a test set with the same mixture.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from cxr_pipeline.data.splits import select_split

CONFOUNDED_AUC = 0.6
"""Smallest AUC of the source alone, for any class, at which source and class count as confounded (0.5 is chance)."""


def source_baseline(manifest: pd.DataFrame, splits: pd.DataFrame, *, outputs: Sequence[str]) -> dict[str, Any] | None:
    """Predict the classes of the test images from their source alone.

    The score of an image is the frequency of a class among the training images of its source, with one image of the
    average source added to each source (additive smoothing). A source without training images has the overall
    frequency.

    Returns:
        None with fewer than two sources. Else JSON-able: ``auc`` (mean over the classes that have one), ``per_class``
        (for each output ``auc``; None unless there are test images both with and without the class), ``accuracy`` of
        the most frequent class of each source and ``majority_accuracy`` of the most frequent class overall (None if an
        image may have several classes), ``n_images`` (for each class and source, over all splits), ``confounded``
        (whether any AUC reaches ``threshold``) and ``threshold``.
    """
    if manifest["source"].nunique() < 2:
        return None
    labels = manifest.filter(regex="^label_").columns
    table = manifest.astype(dict.fromkeys(labels, "float64"))
    train, test = (select_split(table, splits, split) for split in ("train", "test"))
    scores = _scores(train, test, labels)
    aucs = {name: _auc(test[f"label_{name}"], scores[f"label_{name}"]) for name in outputs}
    known = [auc for auc in aucs.values() if auc is not None]
    exclusive = len(test) > 0 and bool(table[labels].sum(axis=1, skipna=False).eq(1).all())
    truth, majority = test[labels].to_numpy().argmax(axis=1), train[labels].mean().to_numpy().argmax()
    n_images = table[labels].eq(1).groupby(table["source"]).sum()
    return {
        "auc": float(np.mean(known)) if known else None,
        "per_class": {name: {"auc": auc} for name, auc in aucs.items()},
        "accuracy": float((truth == scores.to_numpy().argmax(axis=1)).mean()) if exclusive else None,
        "majority_accuracy": float((truth == majority).mean()) if exclusive else None,
        "n_images": {str(label).removeprefix("label_"): n_images[label].to_dict() for label in labels},
        "confounded": any(auc >= CONFOUNDED_AUC for auc in known),
        "threshold": CONFOUNDED_AUC,
    }


def _scores(train: pd.DataFrame, test: pd.DataFrame, labels: "pd.Index[str]") -> pd.DataFrame:
    """Return P(class | source) of each test image, [n, k]; NaN for classes unknown in all training images."""
    overall = train[labels].mean()
    by_source = train.groupby("source")[list(labels)]
    frequencies = (by_source.sum() + overall) / (by_source.count() + 1)
    return frequencies.reindex(test["source"]).fillna(overall).set_axis(test.index)


def _auc(y_true: "pd.Series[float]", y_score: "pd.Series[float]") -> float | None:
    from sklearn.metrics import roc_auc_score

    usable = y_true.notna() & y_score.notna()
    return float(roc_auc_score(y_true[usable], y_score[usable])) if y_true[usable].nunique() == 2 else None
