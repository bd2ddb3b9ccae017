"""The content of ``metrics.json``: metrics with intervals, by class, source and threshold policy."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import pandas as pd

from cxr_pipeline.evaluation.decision_rule import DecisionRule
from cxr_pipeline.evaluation.measure import METHODS, measure
from cxr_pipeline.evaluation.metrics import majority_baseline
from cxr_pipeline.evaluation.score_tables import Scores, columns_of, decide, patients_of


def evaluate(
    table: pd.DataFrame, *, outputs: Sequence[str], exclusive: bool, bootstrap: Mapping[str, Any]
) -> dict[str, Any]:
    """Compute the metrics of a score table with decisions.

    ``exclusive`` and the items of ``bootstrap``, ``replicates``, ``confidence`` and ``seed``, are those of `measure`.

    Returns:
        ``n_images``, ``n_patients`` (None if unknown), ``prevalence`` (a number, or one per output if there are
        several), ``metrics``, ``per_class``, ``support``, ``intervals``, and ``majority`` for exclusive classes.
    """
    scores, patients = Scores.from_table(table, outputs), patients_of(table)
    measured = measure(scores, patients, exclusive=exclusive, **bootstrap)
    prevalence = {
        output: support["n_positive"] / support["n_known"] if support["n_known"] else None
        for output, support in measured["support"].items()
    }
    return {
        "n_images": len(table),
        "n_patients": None if patients is None else int(patients.nunique()),
        "prevalence": prevalence if len(outputs) > 1 else prevalence[outputs[0]],
        **measured,
        **({"majority": majority_baseline(scores.y_true, outputs)} if exclusive else {}),
        "intervals": {
            "methods": METHODS,
            "clustered_by": "image" if patients is None else "patient",
            "replicates": bootstrap["replicates"],
            "confidence": bootstrap["confidence"],
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


def images_digest(table: pd.DataFrame, outputs: Sequence[str]) -> str:
    """Return the SHA-256 of the content and labels of all images. Only metrics of the same images can be compared.

    The order of the score table and of the outputs does not matter.
    """
    names = sorted(outputs)
    labels = [[None if math.isnan(label) else label for label in image] for image in columns_of(table, "true", names)]
    images = sorted(zip(table["sha256"], map(json.dumps, labels), strict=True))
    return hashlib.sha256(json.dumps([names, images]).encode()).hexdigest()


def flatten_metrics(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Flatten ``metrics.json`` to names that are suitable for MLflow.

    Returns:
        ``<split>/<metric>`` with ``_low`` and ``_high``, or ``_too_few_patients``; ``<split>/<class>/<metric>`` for
        each class; ``<split>/n_images``, ``n_patients`` and ``prevalence``; and ``threshold/<class>``, without
        undefined values.
    """
    split = metrics["split"]
    flat: dict[str, Any] = {f"{split}/{name}": metrics.get(name) for name in ("n_images", "n_patients", "prevalence")}
    flat |= {f"threshold/{name}": value for name, value in metrics["thresholds"].items()}
    groups = {split: metrics["metrics"]}
    groups |= {f"{split}/{name}": measured for name, measured in metrics.get("per_class", {}).items()}
    for prefix, measured in groups.items():
        for name, interval in measured.items():
            flat[f"{prefix}/{name}"] = interval["value"]
            flat[f"{prefix}/{name}_low"] = interval.get("low")
            flat[f"{prefix}/{name}_high"] = interval.get("high")
            flat[f"{prefix}/{name}_too_few_patients"] = interval.get("too_few_patients")
    return numbers_of(flat)


def numbers_of(values: Mapping[str, Any]) -> dict[str, float]:
    """Return the values that are finite numbers."""
    return {name: float(value) for name, value in values.items() if isinstance(value, Real) and math.isfinite(value)}
