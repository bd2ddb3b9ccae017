"""The metrics of all outputs with intervals, clustered by patient, in the form of ``metrics.json``."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxr_pipeline.data.splits import effective_number
from cxr_pipeline.evaluation.bootstrap import DecidedImages, draw_weights, nanmean, patient_codes, percentiles
from cxr_pipeline.evaluation.estimates import FEWEST_PATIENTS, Patients, estimate_metrics
from cxr_pipeline.evaluation.intervals import Estimate, Floats, estimate_share, mean_estimate
from cxr_pipeline.evaluation.metrics import METRICS, binary_metrics
from cxr_pipeline.evaluation.score_tables import Scores

Interval = dict[str, float | int | None]

METHODS = {
    "auc, average_precision": f"effective number of patients; none with fewer than {FEWEST_PATIENTS} of a class",
    "accuracy, balanced_accuracy, sensitivity, specificity, precision, f1, brier": "effective number of patients",
    "ece": f"percentile bootstrap, lower end reflected; none with fewer than {FEWEST_PATIENTS} patients",
}


def measure(
    scores: Scores,
    patients: ArrayLike | None,
    *,
    exclusive: bool,
    replicates: int,
    confidence: float,
    seed: int,
) -> dict[str, Any]:
    """Compute every metric of every output, and their means, with intervals, in the form of ``metrics.json``.

    Means (macro averages) are over the outputs for which a metric is defined. ``brier`` and ``ece`` of several outputs
    are means of each class against the rest (classwise calibration error).

    Intervals treat the images of a patient as a cluster, see :mod:`cxr_pipeline.evaluation.intervals`. Only that of the
    calibration error comes from a bootstrap that draws whole patients with replacement: that error is biased upwards,
    and more so in a replicate. The lower end of its percentile interval is therefore reflected at the value if that is
    lower (basic bootstrap interval), so that the interval contains the value.

    Args:
        scores: n images; those without any known label are left out, and the order does not matter.
        patients: [n], the patient of each image, null for a patient with one image; None if each image is a patient.
        exclusive: whether each image has exactly one class. ``accuracy`` is then the share of images with a correct
            decision instead of a mean over the outputs, and ``balanced_accuracy`` the mean of the sensitivities.
        replicates: number of bootstrap samples.
        confidence: in (0, 1), such as 0.95.
        seed: of the random draws.

    Returns:
        ``metrics``: for each of the ``METRICS`` ``{"value", "low", "high"}``, null if undefined. With too few patients
        for an interval, ``low`` and ``high`` are null and ``too_few_patients`` is their number, for AUC and average
        precision that of the rarer class. ``per_class``: the same for each output. ``support``: for each output
        ``n_known``, ``n_positive``, and ``patients`` and ``effective_patients`` with ``positive`` and ``negative``
        images. The effective number (Kish) is below the number if images are spread unequally over patients.

    Raises:
        UserError: a score is NaN.

    References:
        Efron, Tibshirani, "An introduction to the bootstrap", 1993, chapter 13.
        Field, Welsh, "Bootstrapping clustered data", J. R. Statist. Soc. B 69, 2007.
        Kull et al., "Beyond temperature scaling", NeurIPS 2019, for the classwise calibration error.
    """
    columns = zip(scores.y_true.T, scores.probability.T, scores.predicted.T, strict=True)
    values = [binary_metrics(*column) for column in columns]
    order = _canonical_order(scores)
    codes = patient_codes(patients, order)
    n_patients = int(codes.max(initial=-1)) + 1
    images = DecidedImages(scores, order, exclusive=exclusive)
    drawn = [images.calibration_errors(weights) for weights in draw_weights(codes, replicates, seed)]
    errors = np.concatenate([np.empty((len(values), 0)), *drawn], axis=1)
    per_class, support, estimates, n_known = {}, {}, [], []
    for name, output, value, own in zip(scores.outputs, images.outputs, values, errors, strict=True):
        of_patients = Patients(codes[output.images], n_patients)
        found = estimate_metrics(output.positive, output.probability, output.predicted, of_patients, confidence)
        positive, negative = (of_patients.sum(side) for side in (output.positive, ~output.positive))
        estimates.append(found)
        n_known.append(int(np.count_nonzero(positive + negative)))
        intervals = {metric: _interval(found.get(metric), value[metric]) for metric in METRICS}
        per_class[name] = {**intervals, "ece": _calibration_error(value["ece"], own, n_known[-1], confidence)}
        support[name] = _support(positive, negative)
    means = {metric: mean_estimate([found.get(metric) for found in estimates]) for metric in METRICS}
    mean_values = {metric: float(nanmean(np.array([value[metric] for value in values]))) for metric in METRICS}
    if exclusive:
        right = (scores.predicted & (scores.y_true == 1))[order].any(axis=1)
        whole = Patients(codes, n_patients)
        means["accuracy"] = estimate_share(whole.sum(right), whole.sum(np.ones_like(right)), confidence)
        means["balanced_accuracy"] = means["sensitivity"]
        mean_values["accuracy"] = float(right.mean()) if len(right) else float("nan")
        mean_values["balanced_accuracy"] = mean_values["sensitivity"]
    metrics = {metric: _interval(mean, mean_values[metric]) for metric, mean in means.items()}
    metrics["ece"] = _calibration_error(mean_values["ece"], nanmean(errors), max(n_known, default=0), confidence)
    return {"metrics": metrics, "per_class": per_class, "support": support}


def measure_mean(
    values: ArrayLike, patients: ArrayLike | None, *, confidence: float, smallest: float = 0.0
) -> Interval:
    """Compute the mean of a number over images, with an interval clustered by patient.

    Args:
        values: [n], from ``smallest`` to 1; NaN is left out.
        patients: as for `measure`.
        confidence: in (0, 1).
        smallest: the smallest value that is possible.

    Returns:
        ``{"value", "low", "high"}``, null without images.

    Example:
        >>> measured = measure_mean([1, 1, 1], ["a", "a", "b"], confidence=0.95)
        >>> measured["value"], round(measured["low"], 2), measured["high"]
        (1.0, 0.19, 1.0)
    """
    numbers = np.asarray(values, dtype=np.float64)
    order = np.argsort(numbers, kind="stable")[: np.count_nonzero(~np.isnan(numbers))]
    codes = patient_codes(patients, order)
    of_patients = Patients(codes, int(codes.max(initial=-1)) + 1)
    shares = (numbers[order] - smallest) / (1 - smallest)
    found = estimate_share(of_patients.sum(shares), of_patients.sum(np.ones_like(shares)), confidence)
    if found is None:
        return {"value": None, "low": None, "high": None}
    low, high = (smallest + (1 - smallest) * end for end in (found.low, found.high))
    return {"value": float(numbers[order].mean()), "low": low, "high": high}


def _canonical_order(scores: Scores) -> NDArray[np.intp]:
    """Return the indices of the images with a known label, in an order that is independent of the row order."""
    order = np.lexsort((*scores.predicted.T, *scores.y_true.T, *-scores.probability.T[::-1]))
    return order[~np.isnan(scores.y_true[order]).all(axis=1)]


def _interval(found: Estimate | None, value: float) -> Interval:
    """Return an interval as in ``metrics.json``; the value differs from that of the estimate in rounding only."""
    if found is None:
        return {"value": None, "low": None, "high": None}
    if found.too_few is not None:
        return {"value": value, "low": None, "high": None, "too_few_patients": found.too_few}
    return {"value": value, "low": min(found.low, value), "high": max(found.high, value)}


def _calibration_error(value: float, drawn: Floats, n_patients: int, confidence: float) -> Interval:
    """Return the interval of a calibration error from its replicates."""
    if np.isnan(value):
        return {"value": None, "low": None, "high": None}
    if n_patients < FEWEST_PATIENTS:
        return {"value": value, "low": None, "high": None, "too_few_patients": n_patients}
    low, high = percentiles(drawn, confidence)
    return {"value": value, "low": max(0.0, min(low, 2 * value - high)), "high": max(high, value)}


def _support(positive: Floats, negative: Floats) -> dict[str, Any]:
    """Count the images of an output, and their patients, from the numbers of images of each patient."""
    sides = {"positive": positive, "negative": negative}
    return {
        "n_known": int(positive.sum() + negative.sum()),
        "n_positive": int(positive.sum()),
        "patients": {side: int(np.count_nonzero(members)) for side, members in sides.items()},
        "effective_patients": {side: round(effective_number(members), 2) for side, members in sides.items()},
    }
