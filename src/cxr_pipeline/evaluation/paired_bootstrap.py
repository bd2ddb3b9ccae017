"""Paired comparison of two models on the same test images."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr_pipeline.evaluation.bootstrap import DecidedImages, draw_weights, patient_codes, percentiles
from cxr_pipeline.evaluation.metrics import METRICS
from cxr_pipeline.evaluation.score_tables import Scores, patients_of

Difference = dict[str, float | None]

IMAGE = ["source", "image"]
ROUNDING = 12


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
    Intervals are percentiles.

    The two-sided p-value corresponds to the interval: twice the smaller of the shares of replicates in which the
    difference is at most 0, or at least 0. One replicate is added on each side, so that no p-value is 0: with 2,000
    replicates the smallest is 0.001. Models that always agree have a p-value of 1. Replicates in which a metric is
    undefined for a model are dropped. The calibration error is biased upwards in a replicate: its interval is the hull
    of the percentile and the basic bootstrap interval, and its p-value the larger of the two.

    Returns:
        For each of the ``METRICS``: ``value``, the difference model minus baseline, ``low``, ``high`` and ``p_value``;
        null if the metric is undefined for a model, the last three also with fewer than two patients. Images that only
        one of the tables contains are left out.

    Raises:
        ValueError: see `match_images`.

    References:
        Davison, Hinkley, "Bootstrap methods and their application", 1997, sections 4.4 and 5.2.
        Phipson, Smyth, "Permutation p-values should never be zero", Stat. Appl. Genet. Mol. Biol. 9, 2010.
    """
    table, baseline, _ = match_images(table, baseline, outputs)
    mine, other = (Scores.from_table(each, outputs) for each in (table, baseline))
    known = np.flatnonzero(~np.isnan(mine.y_true).all(axis=1))
    codes = patient_codes(patients_of(table), known)
    pair = [DecidedImages(scores, known, codes, exclusive=exclusive) for scores in (mine, other)]
    values = _differences(pair, np.ones((1, len(codes))))
    weights = draw_weights(codes, bootstrap["replicates"], bootstrap["seed"])
    chunks = [dict.fromkeys(METRICS, np.empty(0)), *(_differences(pair, drawn) for drawn in weights)]
    return {
        name: _difference(
            float(values[name][0]),
            np.concatenate([chunk[name] for chunk in chunks]),
            confidence=bootstrap["confidence"],
            biased=name == "ece",
        )
        for name in METRICS
    }


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for multiple testing with Holm's method, which controls the family-wise error rate.

    See Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Statist. 6, 1979.

    NaN stands for a test that was not made, does not count and stays NaN.

    Raises:
        ValueError: a p-value lies outside [0, 1].

    Example:
        >>> holm([0.04, 0.01, float("nan"), 0.03])
        [0.06, 0.03, nan, 0.06]
    """
    adjusted = np.array(p_values, dtype=np.float64)
    if (adjusted < 0).any() or (adjusted > 1).any():
        raise ValueError(f"p-values must lie in [0, 1]. Received: {list(p_values)}")
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


def _differences(pair: Sequence[DecidedImages], weights: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Return the difference in each metric, [replicates], rounded so that equal metrics give exactly 0."""
    mine, other = (images.replicate(weights)[-1] for images in pair)
    return {name: np.round(mine[name] - other[name], ROUNDING) for name in METRICS}


def _difference(value: float, drawn: NDArray[np.float64], *, confidence: float, biased: bool) -> Difference:
    drawn = drawn[~np.isnan(drawn)]
    if np.isnan(value) or not len(drawn):
        return {"value": None if np.isnan(value) else value, "low": None, "high": None, "p_value": None}
    views = (drawn, 2 * value - drawn) if biased else (drawn,)
    lows, highs = zip(*(percentiles(view, confidence) for view in views), strict=True)
    fewer = max(min(np.count_nonzero(view <= 0), np.count_nonzero(view >= 0)) for view in views)
    p_value = min(1.0, 2 * (int(fewer) + 1) / (len(drawn) + 1))
    return {"value": value, "low": min(lows), "high": max(highs), "p_value": p_value}
