"""Metrics of the test images by sex, age band and view."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from cxr_pipeline.evaluation.evaluate import evaluate
from cxr_pipeline.evaluation.intervals import number_patients
from cxr_pipeline.evaluation.score_tables import Scores, patients_of

ATTRIBUTES = ("sex", "age", "view")
MEASURES = ("auc", "sensitivity", "specificity")


def evaluate_subgroups(
    table: pd.DataFrame,
    manifest: pd.DataFrame,
    *,
    outputs: Sequence[str],
    ages: Sequence[int],
    min_patients: int,
    bootstrap: Mapping[str, Any],
) -> dict[str, Any]:
    """Compute the metrics of each subgroup of the test images.

    A metric is the mean over the outputs for which the group has enough patients. Subgroups share patients and there
    are many of them, so that intervals which do not overlap are no proof of a difference.

    The score table has decisions; the manifest has ``sex``, ``age`` in years and ``view`` of its images, null if
    unknown. ``ages`` are the first ages of the `age_bands`. A group needs ``min_patients`` patients with an output, and
    as many without it, for the metrics of that output; an image without a known patient counts as one patient.
    ``outputs`` and ``bootstrap`` are those of `evaluate`.

    Returns:
        ``min_patients`` and ``confidence``; for ``sex``, ``age`` and ``view`` the number of images for which it is
        unknown, ``n_unknown``, and ``groups``: for each group ``n_images``, ``n_patients`` (None if unknown),
        ``n_positive`` and ``n_known`` by output, ``metrics`` (``auc``, ``sensitivity`` and ``specificity`` with
        ``value``, ``low`` and ``high``; empty if no output has enough patients) and ``per_class``, the same for each
        output with enough patients.
    """
    about = table[["source", "image"]].merge(manifest, on=["source", "image"], how="left", validate="one_to_one")
    about = about.set_index(table.index)
    groups = {"sex": about["sex"], "age": age_bands(about["age"], ages), "view": about["view"]}
    settings: dict[str, Any] = {"outputs": outputs, "min_patients": min_patients, "bootstrap": bootstrap}
    measured = {
        attribute: {
            "n_unknown": int(group.isna().sum()),
            "groups": {str(name): _evaluate(rows, **settings) for name, rows in table.groupby(group, observed=True)},
        }
        for attribute, group in groups.items()
    }
    return {"min_patients": min_patients, "confidence": bootstrap["confidence"], **measured}


def age_bands(age: "pd.Series[float]", begins: Sequence[int]) -> "pd.Series[Any]":
    """Return the band of each age in years, null if unknown; bands but the lowest begin at increasing ages.

    Example:
        >>> age_bands(pd.Series([17.9, 18.0, 90.0]), [18, 65]).tolist()
        ['0 to 17', '18 to 64', '65 and older']
    """
    edges = [0, *begins]
    names = [f"{low} to {high - 1}" for low, high in zip(edges, begins, strict=False)] + [f"{edges[-1]} and older"]
    return pd.cut(age, [*edges, np.inf], right=False, labels=names)


def _evaluate(
    images: pd.DataFrame, *, outputs: Sequence[str], min_patients: int, bootstrap: Mapping[str, Any]
) -> dict[str, Any]:
    """Compute the metrics of one group."""
    scores, patients = Scores.from_table(images, outputs), patients_of(images)
    n_known = (~np.isnan(scores.y_true)).sum(axis=0)
    n_positive = (scores.y_true == 1).sum(axis=0)
    codes = number_patients(patients, np.arange(len(images))).codes
    evaluated = [
        output
        for output, labels in zip(outputs, scores.y_true.T, strict=True)
        if min(len(np.unique(codes[labels == side])) for side in (0, 1)) >= min_patients
    ]
    found: dict[str, Any] = {"metrics": {}, "per_class": {}}
    if evaluated:
        found = evaluate(images, outputs=evaluated, exclusive=False, bootstrap=bootstrap)
    return {
        "n_images": len(images),
        "n_patients": None if patients is None else int(patients.nunique()),
        "n_positive": dict(zip(outputs, n_positive.tolist(), strict=True)),
        "n_known": dict(zip(outputs, n_known.tolist(), strict=True)),
        "metrics": _measures(found["metrics"]),
        "per_class": {output: _measures(metrics) for output, metrics in found["per_class"].items()},
    }


def _measures(metrics: Mapping[str, Any]) -> dict[str, Any]:
    return {name: metrics[name] for name in MEASURES if metrics}
