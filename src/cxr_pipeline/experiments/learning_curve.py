"""Learning curves: the AUC on the same validation images after training on growing numbers of patients.

The mean AUC follows an inverse power law, AUC(n) = a - b n^-c, whose continuation says what more images would bring.

References:
    Cortes et al., "Learning curves: asymptotic values and rate of convergence", NIPS 1993.
    Figueroa et al., "Predicting sample size required for classification performance", BMC Medical Informatics and
    Decision Making 12, 2012.
    Hanley, McNeil, "The meaning and use of the area under a receiver operating characteristic (ROC) curve", Radiology
    143, 1982.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.special import ndtri

from cxr_pipeline.common.errors import UserError

Floats = NDArray[np.float64]

# Predictions for this many times as many images.
FACTORS = (2, 10)
# Half the width of the interval for which the number of test images is given.
HALF_WIDTH = 0.03
REPLICATES = 500
# With a wider interval at twice the number of images, the curve predicts nothing.
WIDEST = 0.1
FEWEST_SIZES = 4
_BOUNDS = ((0.0, 0.0, 0.05), (1.0, np.inf, 2.0))


@dataclass(frozen=True)
class PowerLaw:
    """AUC(n) = a - b n^-c for n training images."""

    a: float
    b: float
    c: float

    def __call__(self, n: float | Floats) -> Floats:
        """Return the AUC for numbers of images."""
        return np.asarray(self.a - self.b * np.power(n, -self.c))


def nested_subsets(groups: pd.Series, labels: pd.DataFrame, sizes: int, seed: int) -> list[NDArray[np.bool_]]:
    """Choose growing random subsets of the patients of images, each with the images of the one before.

    The numbers of patients grow geometrically to all of them, from a 32nd, but at least ten. The patients of each class
    are spread evenly over the random order, so that subsets have its share.

    Args:
        groups: patient of each image, [n].
        labels: columns of 1, 0 or NaN, [n, k].
        sizes: largest number of subsets.
        seed: seed of the order.

    Returns:
        For each size, from the smallest, which images are in the subset, bool [n]; fewer if there are few patients.
    """
    rng = np.random.default_rng(seed)
    classes = labels.groupby(groups.to_numpy()).max().fillna(-1).astype(str).agg("|".join, axis=1)
    shuffled = classes.iloc[rng.permutation(len(classes))]
    place = (shuffled.groupby(shuffled).cumcount() + rng.random()) / shuffled.groupby(shuffled).transform("size")
    order = pd.Series(np.argsort(np.argsort(place.to_numpy(), kind="stable"), kind="stable"), shuffled.index)
    ranks = groups.map(order).to_numpy()
    n_patients = len(classes)
    counts = np.unique(np.geomspace(min(n_patients, max(10, n_patients / 32)), n_patients, sizes).round().astype(int))
    return [ranks < count for count in counts]


def fit_power_law(n_images: Floats, auc: Floats) -> PowerLaw:
    """Fit the law to the AUC at each number of images by least squares, with 0 <= a <= 1, b >= 0, 0.05 <= c <= 2."""
    start = (float(np.clip(auc.max() + 0.02, 0.001, 0.999)), 0.5, 0.5)
    fitted = least_squares(lambda law: law[0] - law[1] * n_images ** -law[2] - auc, start, bounds=_BOUNDS).x
    return PowerLaw(*map(float, fitted))


def analyse(curve: pd.DataFrame, *, prevalence: float, confidence: float, seed: int) -> dict[str, Any]:
    """Fit a learning curve and predict what more images would bring.

    The intervals come from a bootstrap of the draws: each replicate draws as many with replacement and is fitted anew.

    Args:
        curve: a row for each training, with ``draw``, ``size`` (its place among the sizes), ``n_images`` and ``auc``.
        prevalence: fraction of positive images.
        confidence: confidence level of the intervals.
        seed: seed of the bootstrap.

    Returns:
        ``n_images``, the largest number; ``auc``, the mean there; ``law`` with ``a``, ``b`` and ``c``;
        ``predictions``, a row for each of ``FACTORS`` with ``n_images``, ``auc``, ``low`` and ``high``;
        ``test_images``, the number of test images of different patients for which the interval of that AUC is
        `HALF_WIDTH` wide on each side; and ``doubts``, reasons not to trust the fit, empty if there are none.
    """
    # Draws may differ in their number of sizes, and an AUC is undefined without both classes.
    by_draw = curve.pivot_table(index="draw", columns="size", values="auc").dropna(axis="columns")
    if by_draw.empty:
        raise UserError(
            "The learning curve has no number of patients for which the AUC of every draw is defined: the folds have "
            "too few patients of a class. Add images, or use fewer draws: --params <task>.learning_curve.draws=2"
        )
    numbers = curve.groupby("size")["n_images"].mean()[by_draw.columns].to_numpy(np.float64)
    law = fit_power_law(numbers, by_draw.mean().to_numpy())
    rng, n_draws = np.random.default_rng(seed), len(by_draw)
    drawn = rng.integers(n_draws, size=(REPLICATES, n_draws))
    laws = [fit_power_law(numbers, by_draw.iloc[rows].mean().to_numpy()) for rows in drawn]
    largest = float(numbers[-1])
    ends = 100 * (1 - confidence) / 2
    predictions = []
    for factor in FACTORS:
        low, high = np.percentile([each(factor * largest) for each in laws], (ends, 100 - ends)).tolist()
        value = float(law(factor * largest))
        bounds = {"low": min(low, value), "high": max(high, value)}
        predictions.append({"n_images": round(factor * largest), "auc": value, **bounds})
    auc = float(by_draw.iloc[:, -1].mean())
    return {
        "n_images": round(largest),
        "auc": auc,
        "law": {"a": law.a, "b": law.b, "c": law.c},
        "predictions": predictions,
        "test_images": images_for_interval(auc, prevalence, confidence),
        "doubts": _doubts(by_draw, law, predictions[0], misfit=abs(float(law(largest)) - auc)),
    }


def images_for_interval(auc: float, prevalence: float, confidence: float) -> int | None:
    """Return how many test images of different patients give an interval of +- `HALF_WIDTH`; None if undefined.

    Example:
        >>> images_for_interval(0.9, 0.5, 0.95)
        436
    """
    if not 0 < prevalence < 1 or not 0.5 < auc < 1:
        return None
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    z = float(ndtri((1 + confidence) / 2))

    def half_width(n: float) -> float:
        positive, negative = n * prevalence, n * (1 - prevalence)
        variance = auc * (1 - auc) + (positive - 1) * (q1 - auc**2) + (negative - 1) * (q2 - auc**2)
        return z * float(np.sqrt(variance / (positive * negative)))

    low, high = 10, 10**8
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if half_width(middle) <= HALF_WIDTH else (middle + 1, high)
    return low


def _doubts(by_draw: pd.DataFrame, law: PowerLaw, doubled: Mapping[str, float], *, misfit: float) -> list[str]:
    """Return reasons not to trust a fit."""
    means, doubts = by_draw.mean(), []
    if len(means) < FEWEST_SIZES:
        doubts.append(f"there are only {len(means)} sizes")
    spread = float(by_draw.std(ddof=1).mean()) / np.sqrt(len(by_draw)) if len(by_draw) > 1 else np.inf
    if means.iloc[-1] - means.iloc[0] < 2 * spread:
        doubts.append("the AUC does not grow beyond the spread between draws")
    if misfit > 2 * spread:
        doubts.append("the law does not fit the AUC with all images")
    if doubled["high"] - doubled["low"] > WIDEST:
        doubts.append("the interval at twice as many images is wider than 0.1")
    if not _BOUNDS[0][2] * 1.01 < law.c < _BOUNDS[1][2] * 0.99:
        doubts.append("the exponent of the law is at the end of its range")
    return doubts


def sentence(analysis: Mapping[str, Any]) -> str:
    """Answer in one sentence what more images would bring, and in another how many test images would be needed."""
    (twice, ten), test = analysis["predictions"], analysis["test_images"]
    answer = (
        f"With {twice['n_images']:,} training images, twice as many, the AUC would be {_with_interval(twice)}, and "
        f"with {ten['n_images']:,}, ten times as many, {_with_interval(ten)}; with {analysis['n_images']:,} it is "
        f"{analysis['auc']:.3f}."
    )
    if analysis["doubts"]:
        answer = f"The learning curve predicts nothing, because {' and '.join(analysis['doubts'])}."
    if test is not None:
        answer += f" An interval of +-{HALF_WIDTH:g} takes {test:,} test images, each of another patient."
    return answer


def _with_interval(prediction: Mapping[str, float]) -> str:
    return f"{prediction['auc']:.3f} ({prediction['low']:.3f} to {prediction['high']:.3f})"
