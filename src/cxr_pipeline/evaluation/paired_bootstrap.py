"""Paired comparison of two models on the same test images."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from cxr_pipeline.evaluation.intervals import (
    Estimate,
    Floats,
    Interval,
    Patients,
    estimate_metrics,
    mean_estimate,
    number_patients,
)
from cxr_pipeline.evaluation.metrics import (
    METRICS,
    Replicates,
    SortedImages,
    draw_weights,
    nanmean,
    percentile_interval,
)
from cxr_pipeline.evaluation.score_tables import Scores, patients_of

# An interval, and the ``p_value`` of the difference.
Difference = Interval

IMAGE = ["source", "image"]
ROUNDING = 12
DECISIONS = ("accuracy", "balanced_accuracy", "sensitivity", "specificity", "precision", "f1")
AREAS = ("auc", "average_precision")


def match_images(
    table: pd.DataFrame, baseline: pd.DataFrame, outputs: Sequence[str]
) -> tuple[pd.DataFrame, pd.DataFrame, int]:
    """Find the images that two score tables have in common, in any order of rows.

    Returns:
        Both tables with their common images, sorted by image, and the number of images that only one of them contains.

    Raises:
        ValueError: an image occurs twice in a table, the tables have no image in common, or the patient or the label of
            an output differs between them.
    """
    mine, other = (each.set_index(IMAGE).sort_index() for each in (table, baseline))
    if mine.index.has_duplicates or other.index.has_duplicates:
        raise ValueError("An image occurs twice in a score table. Expected one row for each `source` and `image`.")
    common = mine.index.intersection(other.index).sort_values()
    if common.empty:
        raise ValueError(
            f"The two models have no test image in common: one was tested on {len(mine):,} images, the other on "
            f"{len(other):,} other images."
        )
    n_left_out = len(mine) + len(other) - 2 * len(common)
    mine, other = mine.loc[common], other.loc[common]
    for column in (*(f"true_{output}" for output in outputs), "patient_id"):
        _check_same(column, mine[column], other[column])
    return mine.reset_index(), other.reset_index(), n_left_out


def paired_differences(
    table: pd.DataFrame,
    baseline: pd.DataFrame,
    *,
    outputs: Sequence[str],
    exclusive: bool,
    bootstrap: Mapping[str, Any],
) -> dict[str, Difference]:
    """Compute the differences between the metrics of two models on the test images that both have scored.

    Metrics and arguments are those of :func:`cxr_pipeline.evaluation.evaluate.evaluate`, for score tables in any order;
    of several outputs the mean is compared. Each model uses its own frozen decision rule. The bootstrap draws whole
    patients, the same ones for both models, so that an image that is difficult for both does not count as a difference.
    Intervals are percentiles. Where two models decide alike on a few patients, replicates hardly differ, although the
    models could differ on other patients. The interval of a metric of decisions therefore extends on both sides at
    least as far as that of a model without errors extends below 1 (Tango), unless both give the same scores. That of
    AUC or average precision does so if all replicates are equal, although the models rank the images differently.

    The two-sided p-value corresponds to the percentiles: twice the smaller of the shares of replicates in which the
    difference is at most 0, or at least 0. One replicate is added on each side, so that no p-value is 0: with 2,000
    replicates the smallest is 0.001. Models that always agree have a p-value of 1. Replicates in which a metric is
    undefined for a model are dropped. The calibration error is biased upwards in a replicate: its interval is the hull
    of the percentile and the basic bootstrap interval, and its p-value the larger of the two.

    Returns:
        For each of the ``METRICS``: ``value``, the difference model minus baseline, ``low``, ``high`` and ``p_value``;
        null if the metric is undefined for a model. With too few patients the last three are null, and
        ``too_few_patients`` is their number (see `evaluate`). Images that only one of the tables contains are left out.

    Raises:
        ValueError: see `match_images`.

    References:
        Davison, Hinkley, "Bootstrap methods and their application", 1997, sections 4.4 and 5.2.
        Tango, "Equivalence test and confidence interval for the difference in proportions for the paired-sample
        design", Stat. Med. 17, 1998.
        Phipson, Smyth, "Permutation p-values should never be zero", Stat. Appl. Genet. Mol. Biol. 9, 2010.
    """
    from scipy.stats import rankdata

    table, baseline, _ = match_images(table, baseline, outputs)
    mine, other = (Scores.from_table(each, outputs) for each in (table, baseline))
    known = np.flatnonzero(~np.isnan(mine.y_true).all(axis=1))
    patients = number_patients(patients_of(table), known)
    pair = []
    for scores in (mine, other):
        right = (scores.predicted & (scores.y_true == 1))[known].any(axis=1).astype(np.float64)
        pair.append((scores.sort_outputs(known), right if exclusive else None))

    drawn = draw_weights(patients.codes, bootstrap["replicates"], bootstrap["seed"])
    differences: dict[str, list[Floats]] = {name: [] for name in METRICS}
    # The first difference is the value itself, the others are replicates.
    for weights in itertools.chain([np.ones((1, len(known)))], drawn):
        model, reference = (_replicate(*each, weights) for each in pair)
        for name, values in differences.items():
            # Rounded so that equal metrics give exactly 0.
            values.append(np.round(model[name] - reference[name], ROUNDING))
    perfect = _without_errors(pair[0][0], patients, exclusive=exclusive, confidence=bootstrap["confidence"])
    # Models that give the same scores would agree on other patients, too.
    same = all(np.array_equal(getattr(mine, name), getattr(other, name)) for name in ("probability", "predicted"))
    same_ranking = np.array_equal(*(rankdata(scores.probability, "dense", axis=0) for scores in (mine, other)))
    agree = {**dict.fromkeys(DECISIONS, same), **dict.fromkeys(AREAS, same_ranking)}
    return {
        name: _difference(
            name,
            np.concatenate(differences[name]),
            perfect=perfect.get(name),
            may_differ=not agree.get(name, True),
            confidence=bootstrap["confidence"],
        )
        for name in METRICS
    }


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for multiple testing with Holm's method, which controls the family-wise error rate.

    See Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Statist. 6, 1979.
    NaN stands for a test that was not made, does not count and stays NaN.

    Example:
        >>> holm([0.04, 0.01, float("nan"), 0.03])
        [0.06, 0.03, nan, 0.06]
    """
    adjusted = np.array(p_values, dtype=np.float64)
    order = np.argsort(adjusted, kind="stable")[: np.count_nonzero(~np.isnan(adjusted))]
    steps = adjusted[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return [float(value) for value in adjusted]


def _check_same(column: str, mine: "pd.Series[Any]", other: "pd.Series[Any]") -> None:
    differ = ~((mine == other).fillna(False).astype(bool) | (mine.isna() & other.isna()))
    if differ.any():
        raise ValueError(
            f"The two models cannot be compared: {differ.sum()} of {len(differ)} common test images differ in "
            f"`{column}`. Check that both were tested on the same version of the data."
        )


def _replicate(outputs: Sequence[SortedImages], right: Floats | None, weights: Floats) -> Replicates:
    """Compute the mean of each metric over the outputs for which it is defined, for each row of weights.

    ``right`` has 1 for each image with a correct decision, [n], if the classes are exclusive.
    """
    replicates = [images.replicate(weights) for images in outputs]
    means = {name: nanmean(np.stack([values[name] for values in replicates])) for name in METRICS}
    if right is None:
        return means
    with np.errstate(invalid="ignore"):
        accuracy = (weights @ right) / weights.sum(axis=1)
    return {**means, "accuracy": accuracy, "balanced_accuracy": means["sensitivity"]}


def _without_errors(
    outputs: Sequence[SortedImages], patients: Patients, *, exclusive: bool, confidence: float
) -> dict[str, Estimate | None]:
    """Estimate the mean metrics of a model that predicts the label of every image."""
    estimates = []
    for images in outputs:
        labels = images.positive.astype(np.float64)
        perfect = SortedImages(labels, labels, images.positive)
        estimates.append(estimate_metrics(perfect, patients[images.images[perfect.images]], confidence))
    means = {name: mean_estimate([found.get(name) for found in estimates]) for name in METRICS}
    return {**means, "balanced_accuracy": means["sensitivity"]} if exclusive else means


def _difference(
    name: str, values: Floats, *, perfect: Estimate | None, may_differ: bool, confidence: float
) -> Difference:
    value, drawn = float(values[0]), values[1:][~np.isnan(values[1:])]
    unknown: Difference = {"value": None if np.isnan(value) else value, "low": None, "high": None, "p_value": None}
    if np.isnan(value):
        return unknown
    if perfect is not None and (perfect.too_few is not None or not len(drawn)):
        n_patients = int(np.count_nonzero(perfect.members)) if perfect.too_few is None else perfect.too_few
        return {**unknown, "too_few_patients": n_patients}
    if not len(drawn):
        return unknown
    views = (drawn, 2 * value - drawn) if name == "ece" else (drawn,)
    lows, highs = zip(*(percentile_interval(view, confidence) for view in views), strict=True)
    fewer = max(min(np.count_nonzero(view <= 0), np.count_nonzero(view >= 0)) for view in views)
    p_value = min(1.0, 2 * (int(fewer) + 1) / (len(drawn) + 1))
    unseen = may_differ and (name in DECISIONS or np.ptp(drawn) == 0)
    least = 1 - perfect.low if perfect is not None and unseen else 0.0
    return {
        "value": value,
        "low": max(-1.0, min(*lows, value - least)),
        "high": min(1.0, max(*highs, value + least)),
        "p_value": p_value,
    }
