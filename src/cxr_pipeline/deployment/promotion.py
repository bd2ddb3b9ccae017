"""The comparison of a challenger with the champion, and the rule that decides whether it replaces the champion.

The intervals of differences are two-sided. With a confidence of 95 %, a challenger that is worse by exactly the margin
passes as "not worse" in at most 2.5 % of comparisons.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from cxr_pipeline.data.images.store import PreparedImages
from cxr_pipeline.evaluation import score_tables
from cxr_pipeline.evaluation.evaluate import evaluate
from cxr_pipeline.evaluation.paired_bootstrap import Difference, match_images, paired_differences

if TYPE_CHECKING:
    from cxr_pipeline.data.sources.readers import Reader
    from cxr_pipeline.deployment.classifier import ImageClassifier

COMPARED = ("auc", "sensitivity", "specificity", "balanced_accuracy")
BETTER, BETTER_OR_NEWER = "better", "better_or_newer"


@dataclass(frozen=True)
class Condition:
    """One condition of the promotion rule: its ``figure`` (None where it is not defined), and the result in words."""

    name: str
    figure: float | None
    bound: float
    met: bool
    text: str


@dataclass(frozen=True)
class Decision:
    """Whether a challenger is promoted, and why.

    The conditions compare it with the champion, unless it is the first version, and its own metrics with the floors.
    """

    promoted: bool
    reasons: list[str]
    comparison: list[Condition]
    floors: list[Condition]


def score_images(
    classifier: "ImageClassifier",
    images: pd.DataFrame,
    readers: Mapping[str, "Reader"],
    *,
    outputs: Sequence[str],
    folder: Path,
    workers: int | None,
) -> pd.DataFrame:
    """Score rows of the manifest with a version, using its own recipe and frozen decision rule.

    Images that are prepared in the image stores in ``folder`` are not decoded again. The score table has no row for
    images that the recipe refuses.
    """
    recipe = classifier.recipe
    resized = PreparedImages(folder, replace(recipe, steps=()))
    places = zip(images["source"].map(readers), images["path"], strict=True)
    refused = resized.fill(dict(zip(images["sha256"], places, strict=True)), workers=workers)
    usable = images[~images["sha256"].isin(refused["sha256"])].reset_index(drop=True)
    prepared = resized.enhanced(usable["sha256"].tolist(), recipe.steps, workers=workers)
    table = score_tables.predict_scores(classifier.model, prepared, usable, outputs)
    return score_tables.decide(table, classifier.decision_rule)


def compare(
    challenger: pd.DataFrame,
    champion: pd.DataFrame,
    *,
    outputs: Sequence[str],
    exclusive: bool,
    bootstrap: Mapping[str, Any],
) -> dict[str, Any]:
    """Compare the decided score tables of two models on the same test images (see `match_images`).

    Returns:
        ``n_images`` that both could score, ``n_patients`` of these (None if unknown) and ``n_left_out``, images that
        only one could score; ``challenger`` and ``champion``, with ``value``, ``low`` and ``high`` of each metric of
        ``COMPARED``; ``differences``, challenger minus champion, paired, with ``p_value`` too.
    """
    settings: dict[str, Any] = {"outputs": outputs, "exclusive": exclusive, "bootstrap": bootstrap}
    challenger, champion, n_left_out = match_images(challenger, champion, outputs)
    sides = {
        "challenger": evaluate(challenger, **settings)["metrics"],
        "champion": evaluate(champion, **settings)["metrics"],
        "differences": paired_differences(challenger, champion, **settings),
    }
    patients = score_tables.patients_of(challenger)
    return {
        "n_images": len(challenger),
        "n_patients": None if patients is None else int(patients.nunique()),
        "n_left_out": n_left_out,
        **{side: {name: metrics[name] for name in COMPARED} for side, metrics in sides.items()},
    }


def decide(
    metrics: Mapping[str, Difference],
    differences: Mapping[str, Difference] | None,
    *,
    floors: Mapping[str, float],
    sensitivity_margin: float,
    auc_margin: float,
    improvement: str,
    newer_data: bool,
) -> Decision:
    """Apply the promotion rule.

    A challenger is promoted if it reaches every floor, its sensitivity is not worse than the champion's, and it is an
    improvement. For a first version, only the floors apply. An undefined metric meets no condition, nor does one with
    too few patients for an interval; such a difference meets only that of a margin of 1.

    Args:
        metrics: of the challenger on all its test images, each with ``value``.
        differences: challenger minus champion for ``auc`` and ``sensitivity``, with ``low``; None without a champion.
        floors: smallest value of each metric. The value itself counts, not the end of its interval.
        sensitivity_margin: the lower end of the difference in sensitivity must be above minus this margin.
        auc_margin: the same for AUC, where a challenger need not be better.
        improvement: ``better``: the lower end of the difference in AUC must be above 0. ``better_or_newer``: or above
            minus ``auc_margin`` if the challenger was trained on ``newer_data``.
        newer_data: images, labels or patients that the champion did not have.

    References:
        Piaggio et al., "Reporting of noninferiority and equivalence randomized trials", JAMA 308, 2012.

    Example:
        >>> decision = decide(
        ...     {"auc": {"value": 0.9}},
        ...     {"auc": {"low": -0.01}, "sensitivity": {"low": -0.02}},
        ...     floors={"auc": 0.6},
        ...     sensitivity_margin=0.05,
        ...     auc_margin=0.02,
        ...     improvement="better_or_newer",
        ...     newer_data=False,
        ... )
        >>> decision.promoted, decision.reasons[0]
        (False, 'The lower end of the difference in AUC, -0.010, is not above +0.000.')
    """
    reached = [_floor(name, metrics[name], bound) for name, bound in floors.items()]
    failed = [floor.text for floor in reached if not floor.met]
    if differences is None:
        first = ["There is no champion, and this version reaches every floor."]
        return Decision(not failed, failed or first, [], reached)
    sensitivity = _above("sensitivity not worse", "sensitivity", differences, -sensitivity_margin)
    better = _above("AUC better", "AUC", differences, 0.0)
    not_worse = _above("AUC not worse", "AUC", differences, -auc_margin)
    improved, why = better.met, [better.text]
    if improvement == BETTER_OR_NEWER and not better.met:
        if newer_data:
            improved = not_worse.met
            why = [not_worse.text, "It was trained on newer data." if improved else better.text]
        else:
            why.append("It was not trained on newer data, so an equal AUC is not enough.")
    if not sensitivity.met:
        failed.append(sensitivity.text)
    if not improved:
        failed += why
    conditions = [sensitivity, better, not_worse] if improvement == BETTER_OR_NEWER else [sensitivity, better]
    return Decision(not failed, failed or [sensitivity.text, *why], conditions, reached)


def _floor(name: str, metric: Difference, bound: float) -> Condition:
    value = metric["value"]
    label = {"auc": "AUC", "f1": "F1"}.get(name, name.replace("_", " ").capitalize())
    if "too_few_patients" in metric:
        text = f"{label} {_format(value)} is of too few patients ({metric['too_few_patients']}) to reach a floor."
        return Condition(f"floor of {name}", value, bound, False, text)
    met = value is not None and value >= bound
    text = f"{label} {_format(value)} {'reaches' if met else 'does not reach'} its floor of {bound:.3f}."
    return Condition(f"floor of {name}", value, bound, met, text)


def _above(name: str, metric: str, differences: Mapping[str, Difference], bound: float) -> Condition:
    difference = differences[metric.lower()]
    low = difference["low"]
    met = low is not None and low > bound
    if "too_few_patients" in difference:
        accepted = f", and a margin of {-bound:g} accepts any" if bound <= -1 else ""
        text = (
            f"The test images are of too few patients ({difference['too_few_patients']}) to show a difference in "
            f"{metric}{accepted}."
        )
        return Condition(name, low, bound, bool(accepted), text)
    text = (
        f"The lower end of the difference in {metric}, {_format(low, '+')}, is {'above' if met else 'not above'} "
        f"{_format(bound, '+')}."
    )
    return Condition(name, low, bound, met, text)


def _format(value: float | None, sign: str = "") -> str:
    # "z" prints a difference of -0.0001 as +0.000, not as -0.000.
    return "(not defined)" if value is None else f"{value:{sign}z.3f}"
