"""What every decision rule has in common."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxr_pipeline.evaluation.metrics import check_scores

SPLIT = "validation"


@dataclass(frozen=True, eq=False)
class Decisions:
    """What a rule makes of scores.

    Args:
        probability: float64 [n, k], in [0, 1].
        called: bool [n, k], whether an output is decided for.
        decision: str [n], the class; of several at once their names joined by ``|``, or ``none``.
    """

    probability: NDArray[np.float64]
    called: NDArray[np.bool_]
    decision: NDArray[np.str_]


@dataclass(frozen=True)
class DecisionRule(ABC):
    """A frozen decision rule.

    Args:
        classes: of the task.
        policy: the rule that chose the thresholds, and its values.
    """

    kind: ClassVar[str]
    classes: tuple[str, ...]
    policy: Mapping[str, Any]

    @property
    def outputs(self) -> tuple[str, ...]:
        """The k classes that the network gives a score for."""
        return self.classes

    @property
    @abstractmethod
    def thresholds(self) -> dict[str, float]:
        """The threshold of each output."""

    @abstractmethod
    def apply(self, y_score: ArrayLike) -> Decisions:
        """Decide on images.

        Args:
            y_score: [n, k], the network's outputs in [0, 1].

        Raises:
            UserError: the model gave NaN, which no rule may take for a negative.
            ValueError: they are not [n, k], or outside [0, 1].
        """

    @classmethod
    @abstractmethod
    def fit(
        cls,
        y_true: ArrayLike,
        y_score: ArrayLike,
        *,
        classes: Sequence[str],
        calibration: str,
        policy: Mapping[str, Any],
    ) -> Self:
        """Fit to validation images, both arrays [n, k]."""

    @abstractmethod
    def with_policy(self, y_true: ArrayLike, y_score: ArrayLike, policy: Mapping[str, Any]) -> Self:
        """The same calibration with the thresholds of another policy."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """The form of ``decision_rule.json``."""

    @classmethod
    @abstractmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Restore a rule from that form."""


def as_labels(y_true: ArrayLike, outputs: Sequence[str]) -> NDArray[np.float64]:
    """Labels, float64 [n, k].

    Raises:
        ValueError: they have another shape.
    """
    return _as_matrix(y_true, outputs, "Labels")


def as_scores(y_score: ArrayLike, outputs: Sequence[str]) -> NDArray[np.float64]:
    """Scores, float64 [n, k], checked.

    Raises:
        UserError: the model gave NaN.
        ValueError: they have another shape, or lie outside [0, 1].
    """
    scores = _as_matrix(y_score, outputs, "Scores")
    check_scores(scores)
    return scores


def _as_matrix(values: ArrayLike, outputs: Sequence[str], what: str) -> NDArray[np.float64]:
    matrix = np.asarray(values, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[1] != len(outputs):
        raise ValueError(f"{what} must have the shape [n, {len(outputs)}]. Received: {matrix.shape}")
    return matrix


def summary(met: Mapping[str, bool]) -> str:
    """Say of which outputs the policy got what it asked for, in one sentence."""
    missed = [name for name, is_met in met.items() if not is_met]
    if missed:
        return f"The policy is missed for {', '.join(missed)}; per_class says by how much."
    return f"The policy is met for all {len(met)} classes."
