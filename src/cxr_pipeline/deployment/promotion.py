"""Whether a challenger takes the champion's place: absolute floors, and what is compared on the same images.

An interval of a difference is two-sided. With a confidence of 95 %, a challenger that is exactly as bad as the margin
allows passes for "not worse" in at most 2.5 of 100 comparisons.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from cxr_pipeline.evaluation.evaluate import evaluate
from cxr_pipeline.evaluation.paired_bootstrap import Difference, match_images, paired_differences
from cxr_pipeline.evaluation.score_tables import patients_of

COMPARED = ("auc", "sensitivity", "specificity", "balanced_accuracy")
# What counts as progress: AUC above the champion's with confidence; or also AUC not worse, learned from newer images.
BETTER, BETTER_OR_NEWER = "better", "better_or_newer"


@dataclass(frozen=True)
class Condition:
    """One condition of the rule, and whether it is met.

    Args:
        name: of the condition.
        figure: what was found; None where it is not defined.
        bound: what it was held against.
        met: whether the condition is met.
        text: the finding as a sentence.
    """

    name: str
    figure: float | None
    bound: float
    met: bool
    text: str


@dataclass(frozen=True)
class ModelComparison:
    """Two models on the test images that both have judged.

    Args:
        n_images: those images.
        n_patients: their patients; None where not known.
        n_left_out: images that only one of them could judge.
        challenger: each of ``COMPARED`` with ``value``, ``low`` and ``high``.
        champion: the same of the other.
        differences: of challenger less champion, paired, with ``value``, ``low``, ``high`` and ``p_value``.
    """

    n_images: int
    n_patients: int | None
    n_left_out: int
    challenger: Mapping[str, Difference]
    champion: Mapping[str, Difference]
    differences: Mapping[str, Difference]


@dataclass(frozen=True)
class Decision:
    """Whether a challenger is promoted, and why.

    Args:
        promoted: whether it becomes the champion.
        reasons: sentences that carry the decision.
        comparison: conditions that compare it with the champion; none for a first version.
        floors: conditions on its own figures.
    """

    promoted: bool
    reasons: tuple[str, ...]
    comparison: tuple[Condition, ...]
    floors: tuple[Condition, ...]

    def to_dict(self) -> dict[str, Any]:
        """Describe the decision in JSON types."""
        described = asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in described.items()}


def compare(
    challenger: pd.DataFrame,
    champion: pd.DataFrame,
    *,
    outputs: Sequence[str],
    exclusive: bool,
    bootstrap: Mapping[str, Any],
) -> ModelComparison:
    """Compare two models, each of which decides by its own frozen rule.

    Args:
        challenger: score table of the test images, decided.
        champion: the same images, in any order.
        outputs: names of the outputs of both.
        exclusive: whether an image has just one class.
        bootstrap: ``replicates``, ``confidence`` and ``seed``.

    Raises:
        ValueError: the tables cannot be compared, see :func:`cxr_pipeline.evaluation.paired_bootstrap.match_images`.
    """
    settings: dict[str, Any] = {"outputs": outputs, "exclusive": exclusive, "bootstrap": bootstrap}
    images = match_images(challenger, champion, outputs)
    figures = [evaluate(each, **settings)["metrics"] for each in (images.table, images.baseline)]
    mine, other = ({name: found[name] for name in COMPARED} for found in figures)
    differences = paired_differences(images.table, images.baseline, **settings)
    patients = patients_of(images.table)
    return ModelComparison(
        n_images=len(images.table),
        n_patients=None if patients is None else int(patients.nunique()),
        n_left_out=images.n_left_out,
        challenger=mine,
        champion=other,
        differences={name: differences[name] for name in COMPARED},
    )


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

    A challenger is promoted if it reaches every floor, its sensitivity is not worse than the champion's by
    ``sensitivity_margin`` or more, and it is progress. A first version needs the floors alone. What is not defined
    meets no condition.

    Args:
        metrics: the challenger's figures on all its test images, each with ``value``.
        differences: challenger less champion, for ``auc`` and ``sensitivity`` with ``low``; None without a champion.
        floors: the least value of each metric named; the value itself counts, not the end of its interval.
        sensitivity_margin: the lower end of the difference in sensitivity must lie above minus this.
        auc_margin: likewise for AUC, where a challenger need not be better.
        improvement: ``better``, the lower end of the difference in AUC lies above 0; ``better_or_newer``, or above
            minus ``auc_margin`` if the challenger also learned from newer data.
        newer_data: whether it learned from images or labels that the champion did not have.

    Raises:
        ValueError: ``improvement`` is neither.

    References:
        Piaggio et al., "Reporting of noninferiority and equivalence randomized trials", JAMA 308, 2012.
    """
    if improvement not in (BETTER, BETTER_OR_NEWER):
        raise ValueError(f"expected {BETTER!r} or {BETTER_OR_NEWER!r}. Received: improvement={improvement!r}")
    reached = tuple(_floor(name, metrics[name]["value"], bound) for name, bound in floors.items())
    failed = [condition.text for condition in reached if not condition.met]
    if differences is None:
        first = "There is no champion to compare it with: it is promoted because it reaches every floor."
        return Decision(not failed, tuple(failed or [first]), (), reached)
    sensitivity = _above("sensitivity not worse", "sensitivity", differences, -sensitivity_margin)
    better = _above("AUC better", "AUC", differences, 0.0)
    not_worse = _above("AUC not worse", "AUC", differences, -auc_margin)
    progress, why = _progress(better, not_worse, improvement=improvement, newer_data=newer_data)
    failed += [] if sensitivity.met else [sensitivity.text]
    failed += [] if progress else why
    shown = (sensitivity, better, *((not_worse,) if improvement == BETTER_OR_NEWER else ()))
    return Decision(not failed, tuple(failed or [sensitivity.text, *why]), shown, reached)


def _progress(better: Condition, not_worse: Condition, *, improvement: str, newer_data: bool) -> tuple[bool, list[str]]:
    """Whether there is progress, and the sentences that say why or why not."""
    if better.met or improvement == BETTER:
        return better.met, [better.text]
    if not newer_data:
        return False, [
            better.text,
            "It did not learn from newer images or labels, so that being as good is not enough.",
        ]
    learned = ["It learned from newer images or labels."] if not_worse.met else [better.text]
    return not_worse.met, [not_worse.text, *learned]


def _floor(name: str, figure: float | None, bound: float) -> Condition:
    met = figure is not None and figure >= bound
    side = "reaches" if met else "does not reach"
    text = f"{_label(name)} {_written(figure)} {side} its floor of {bound:.3f}."
    return Condition(f"floor of {name}", figure, bound, met, text)


def _above(name: str, what: str, differences: Mapping[str, Difference], bound: float) -> Condition:
    low = differences[what.lower()]["low"]
    met = low is not None and low > bound
    side = "above" if met else "not above"
    text = f"The lower end of the difference in {what}, {_written(low, sign='+')}, is {side} {bound:+.3f}."
    return Condition(name, low, bound, met, text)


def _label(name: str) -> str:
    return {"auc": "AUC", "f1": "F1"}.get(name, name.replace("_", " ").capitalize())


def _written(figure: float | None, sign: str = "") -> str:
    return "(not defined)" if figure is None else f"{figure:{sign}.3f}"
