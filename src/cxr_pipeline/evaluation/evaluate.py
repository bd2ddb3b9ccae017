"""The content of ``metrics.json``: metrics with intervals, by class, source and threshold policy."""

import hashlib
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr_pipeline.data.splits import effective_number
from cxr_pipeline.evaluation.decision_rule import DecisionRule
from cxr_pipeline.evaluation.intervals import (
    FEWEST_PATIENTS,
    UNDEFINED,
    Estimate,
    Floats,
    Interval,
    estimate_metrics,
    estimate_share,
    mean_estimate,
    number_patients,
)
from cxr_pipeline.evaluation.metrics import HEADLINE, METRICS, draw_weights, mean_auc, nanmean, percentile_interval
from cxr_pipeline.evaluation.score_tables import Scores, columns_of, decide, patients_of

# The row of the classification report with the means over the outputs; no class may have this name.
MACRO = "mean"
METHODS = {
    "auc, average_precision": f"effective number of patients; none with fewer than {FEWEST_PATIENTS} of a class",
    "accuracy, balanced_accuracy, sensitivity, specificity, precision, f1, brier": "effective number of patients",
    "ece": f"percentile bootstrap, lower end reflected; none with fewer than {FEWEST_PATIENTS} patients",
}


def evaluate(
    table: pd.DataFrame, *, outputs: Sequence[str], exclusive: bool, bootstrap: Mapping[str, Any]
) -> dict[str, Any]:
    """Compute every metric of a score table with decisions.

    Means (macro averages) are over the outputs for which a metric is defined. ``brier`` and ``ece`` of several outputs
    are means of each class against the rest (classwise calibration error).

    Intervals treat the images of a patient as a cluster, see :mod:`cxr_pipeline.evaluation.intervals`. Only that of the
    calibration error comes from a bootstrap that draws whole patients with replacement: that error is biased upwards,
    and more so in a replicate. The lower end of its percentile interval is therefore reflected at the value if that is
    lower (basic bootstrap interval), so that the interval contains the value.

    Args:
        table: n images in any order; those without any known label are left out of the metrics.
        outputs: names of the outputs.
        exclusive: whether each image has exactly one class. ``accuracy`` is then the share of images with a correct
            decision instead of a mean over the outputs, and ``balanced_accuracy`` the mean of the sensitivities.
        bootstrap: number of ``replicates``, ``confidence`` in (0, 1) and ``seed``.

    Returns:
        ``metrics``: for each of the ``METRICS`` ``{"value", "low", "high"}``, null if undefined. With too few patients
        for an interval, ``low`` and ``high`` are null and ``too_few_patients`` is their number, for AUC and average
        precision that of the rarer class. ``per_class``: the same for each output. ``support``: for each output
        ``n_known``, ``n_positive``, and ``patients`` and ``effective_patients`` with ``positive`` and ``negative``
        images. The effective number (Kish) is below the number if images are spread unequally over patients.
        ``prevalence``: a number, or one per output if there are several. ``majority``, for exclusive classes: the most
        frequent class and the accuracy of always predicting it. Besides ``n_images``, ``n_patients`` (None if unknown)
        and ``intervals``, how these were computed.

    Raises:
        UserError: a score is NaN.

    References:
        Efron, Tibshirani, "An introduction to the bootstrap", 1993, chapter 13.
        Field, Welsh, "Bootstrapping clustered data", J. R. Statist. Soc. B 69, 2007.
        Kull et al., "Beyond temperature scaling", NeurIPS 2019, for the classwise calibration error.
    """
    scores, ids, confidence = Scores.from_table(table, outputs), patients_of(table), bootstrap["confidence"]
    order = _canonical_order(scores)
    patients, sorted_outputs = number_patients(ids, order), scores.sort_outputs(order)
    drawn = draw_weights(patients.codes, bootstrap["replicates"], bootstrap["seed"])
    chunks = itertools.chain([np.ones((1, len(order)))], drawn)
    # The first column is the error itself, the others are replicates.
    errors = np.concatenate(
        [np.stack([images.calibration_error(weights) for images in sorted_outputs]) for weights in chunks], axis=1
    )
    per_class, support, estimates, n_known = {}, {}, [], [0]
    for name, images, error in zip(outputs, sorted_outputs, errors, strict=True):
        of_images = patients[images.images]
        found = estimate_metrics(images, of_images, confidence)
        positive, negative = of_images.sum(images.positive), of_images.sum(~images.positive)
        estimates.append(found)
        n_known.append(int(np.count_nonzero(positive + negative)))
        intervals = {metric: _interval(found.get(metric)) for metric in METRICS}
        per_class[name] = {**intervals, "ece": _calibration_error(error, n_known[-1], confidence)}
        support[name] = _support(positive, negative)
    means = {metric: mean_estimate([found.get(metric) for found in estimates]) for metric in METRICS}
    if exclusive:
        right = (scores.predicted & (scores.y_true == 1))[order].any(axis=1)
        means["accuracy"] = estimate_share(patients.sum(right), patients.sum(np.ones_like(right)), confidence)
        means["balanced_accuracy"] = means["sensitivity"]
    metrics = {metric: _interval(mean) for metric, mean in means.items()}
    metrics["ece"] = _calibration_error(nanmean(errors), max(n_known), confidence)
    prevalence = {
        name: each["n_positive"] / each["n_known"] if each["n_known"] else None for name, each in support.items()
    }
    return {
        "n_images": len(table),
        "n_patients": None if ids is None else int(ids.nunique()),
        "prevalence": prevalence if len(outputs) > 1 else prevalence[outputs[0]],
        "metrics": metrics,
        "per_class": per_class,
        "support": support,
        **({"majority": _majority(scores)} if exclusive else {}),
        "intervals": {
            "methods": METHODS,
            "clustered_by": "image" if ids is None else "patient",
            "replicates": bootstrap["replicates"],
            "confidence": confidence,
        },
    }


def evaluate_sources(table: pd.DataFrame, **settings: Any) -> dict[str, Any]:
    """Compute the metrics of each source, ``per_source`` of ``metrics.json``; empty if there is only one source.

    ``settings`` are those of `evaluate`.
    """
    if table["source"].nunique() < 2:
        return {}
    kept = ("n_images", "metrics", "per_class")
    measured = {str(source): evaluate(rows, **settings) for source, rows in table.groupby("source")}
    return {"per_source": {source: {name: values[name] for name in kept} for source, values in measured.items()}}


def evaluate_policies(
    validation: pd.DataFrame,
    test: pd.DataFrame,
    rule: DecisionRule,
    policies: Sequence[Mapping[str, Any]],
    *,
    chosen: Mapping[str, Any],
    **settings: Any,
) -> dict[str, Any]:
    """Compute the metrics under other threshold policies, ``policies`` of ``metrics.json``; empty without any.

    The first entry is that of the frozen rule, whose metrics on the test images are ``chosen``. The others are fitted
    on the score table of the validation images, like the frozen rule, and evaluated on that of the test images.
    ``settings`` are those of `evaluate`.
    """
    if not policies:
        return {}
    y_true, y_score = (columns_of(validation, prefix, rule.outputs) for prefix in ("true", "score"))
    others = [rule.with_policy(y_true, y_score, policy) for policy in policies]
    measured = [chosen, *(evaluate(decide(test, other), **settings)["metrics"] for other in others)]
    return {
        "policies": [
            {"policy": dict(other.policy), "chosen": other is rule, "thresholds": other.thresholds, "metrics": metrics}
            for other, metrics in zip([rule, *others], measured, strict=True)
        ]
    }


def cross_validation(validation: pd.DataFrame, rule: DecisionRule, **settings: Any) -> dict[str, Any]:
    """Compute the metrics of an ensemble on its training images, ``cross_validation`` of ``metrics.json``.

    Each image has the score of the ``member`` that was not trained on it. The result, empty for a single network, has
    ``folds``, ``n_images``, ``n_patients``, the AUC and average precision of all images in ``metrics`` and
    ``per_class``, and ``auc_of_members`` on their own images. Metrics of decisions are not among them, because the rule
    was fitted on the same images. ``settings`` are those of `evaluate`.
    """
    decided = decide(validation, rule)
    members = [images for _, images in decided.groupby("member", sort=True)]
    if len(members) < 2:
        return {}
    measured = evaluate(decided, **settings)
    outputs = settings["outputs"]
    aucs = [
        float(mean_auc(columns_of(each, "true", outputs)[np.newaxis], columns_of(each, "probability", outputs))[0])
        for each in members
    ]
    return {
        "cross_validation": {
            "folds": len(members),
            "n_images": measured["n_images"],
            "n_patients": measured["n_patients"],
            "metrics": _ranking(measured["metrics"]),
            "per_class": {name: _ranking(metrics) for name, metrics in measured["per_class"].items()},
            "auc_of_members": [None if math.isnan(auc) else auc for auc in aucs],
        }
    }


def _ranking(metrics: Mapping[str, Any]) -> dict[str, Any]:
    return {name: metrics[name] for name in ("auc", "average_precision")}


def images_digest(table: pd.DataFrame, outputs: Sequence[str]) -> str:
    """Return the SHA-256 of the content and labels of all images. Only metrics of the same images can be compared.

    The order of the score table and of the outputs does not matter.
    """
    names = sorted(outputs)
    labels = [[None if math.isnan(label) else label for label in image] for image in columns_of(table, "true", names)]
    images = sorted(zip(table["sha256"], map(json.dumps, labels), strict=True))
    return hashlib.sha256(json.dumps([names, images]).encode()).hexdigest()


def classification_report(metrics: Mapping[str, Any]) -> pd.DataFrame:
    """Tabulate the metrics of each output, from ``metrics.json``, and their means if there are several.

    Columns are ``class``, precision, sensitivity, specificity, f1, auc, average_precision and ``support``, the number
    of positive images.
    """
    support = {name: counts["n_positive"] for name, counts in metrics["support"].items()}
    rows = {**metrics["per_class"], **({MACRO: metrics["metrics"]} if len(support) > 1 else {})}
    report = pd.DataFrame({"class": list(rows)})
    for name in ("precision", "sensitivity", "specificity", "f1", "auc", "average_precision"):
        report[name] = pd.Series([row[name]["value"] for row in rows.values()], dtype=np.float64)
    return report.assign(support=[support.get(name, sum(support.values())) for name in rows])


def flatten_metrics(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Flatten ``metrics.json`` to names that are suitable for MLflow.

    Returns:
        ``<split>/<metric>`` for the `HEADLINE` metrics, and ``<split>/n_images``; in ``<split>_details/`` the other
        metrics, ``<metric>_low`` and ``_high``, or ``_too_few_patients``, ``<class>/<metric>`` if there are several
        classes, ``n_patients`` and ``prevalence``; and ``threshold/<class>``; without undefined values.
    """
    split, details = metrics["split"], f"{metrics['split']}_details"
    # The UI of MLflow lists the metrics of models in this order.
    flat: dict[str, Any] = dict.fromkeys(f"{split}/{name}" for name in HEADLINE)
    flat |= {f"{split}/n_images": metrics["n_images"]}
    flat |= {f"{details}/{name}": metrics.get(name) for name in ("n_patients", "prevalence")}
    flat |= {f"threshold/{name}": value for name, value in metrics["thresholds"].items()}
    per_class = metrics.get("per_class", {})
    groups = {"": metrics["metrics"]}
    groups |= {f"{name}/": measured for name, measured in per_class.items()} if len(per_class) > 1 else {}
    for prefix, measured in groups.items():
        for name, interval in measured.items():
            group = split if not prefix and name in HEADLINE else details
            flat[f"{group}/{prefix}{name}"] = interval["value"]
            flat[f"{details}/{prefix}{name}_low"] = interval.get("low")
            flat[f"{details}/{prefix}{name}_high"] = interval.get("high")
            flat[f"{details}/{prefix}{name}_too_few_patients"] = interval.get("too_few_patients")
    return numbers_of(flat)


def numbers_of(values: Mapping[str, Any]) -> dict[str, float]:
    """Return the values that are finite numbers."""
    return {name: float(value) for name, value in values.items() if isinstance(value, Real) and math.isfinite(value)}


def _canonical_order(scores: Scores) -> NDArray[np.intp]:
    """Return the indices of the images with a known label, in an order that is independent of the row order."""
    order = np.lexsort((*scores.predicted.T, *scores.y_true.T, *-scores.probability.T[::-1]))
    return order[~np.isnan(scores.y_true[order]).all(axis=1)]


def _interval(found: Estimate | None) -> Interval:
    """Return an interval as in ``metrics.json``."""
    if found is None:
        return dict(UNDEFINED)
    if found.too_few is not None:
        return {"value": found.value, "low": None, "high": None, "too_few_patients": found.too_few}
    return {"value": found.value, "low": found.low, "high": found.high}


def _calibration_error(errors: Floats, n_patients: int, confidence: float) -> Interval:
    """Return the interval of a calibration error from its value and its replicates."""
    value = float(errors[0])
    if np.isnan(value):
        return dict(UNDEFINED)
    if n_patients < FEWEST_PATIENTS:
        return {"value": value, "low": None, "high": None, "too_few_patients": n_patients}
    low, high = percentile_interval(errors[1:], confidence)
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


def _majority(scores: Scores) -> dict[str, Any]:
    counts = np.nansum(scores.y_true, axis=0)
    most_frequent = int(counts.argmax())
    accuracy = float(counts[most_frequent] / counts.sum()) if counts.any() else None
    return {"class": scores.outputs[most_frequent], "accuracy": accuracy}
