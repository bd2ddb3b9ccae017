"""Policies that choose the cut-off above which a film is called positive.

A film is called positive where ``probability >= threshold``. Only thresholds between the validation films
make a difference: those midway between neighbouring probabilities, one above all and one below all.

Where several do equally well, those that call some films positive and some negative are preferred, then the
one in the widest gap between probabilities: there the fewest new films lie close to the cut, so that it
carries over best. The lowest of what is left is taken, since a missed finding is the worse mistake.
"""

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxr_pipeline.metrics import known_films

FloatArray = NDArray[np.float64]

FALLBACK = 0.5
EVIDENCE = 0.95
ROUNDING = 1e-12


@dataclass(frozen=True)
class Choice:
    """A threshold and how it came about.

    Args:
        threshold: films with at least this probability are called positive.
        met: whether the policy got what it asked for.
        message: what was reached on the validation films, and by how much a policy was missed.
    """

    threshold: float
    met: bool
    message: str


class Cuts:
    """Every threshold that makes a difference, from the highest to the lowest.

    Args:
        positive: bool [n], the labels, with films of both classes.
        probability: float64 [n], in [0, 1].

    Attributes:
        thresholds: float64 [k].
        gaps: float64 [k], the distance between the probabilities on both sides.
        true_positives, false_positives: int [k], films called positive.
        n_positive, n_negative: films of each class.
    """

    def __init__(self, positive: NDArray[np.bool_], probability: FloatArray) -> None:
        values, value_of = np.unique(-probability, return_inverse=True)
        values = -values
        found = np.bincount(value_of, weights=positive).astype(np.int64)
        called = np.bincount(value_of)
        self.true_positives = np.concatenate(([0], found.cumsum()))
        self.false_positives = np.concatenate(([0], called.cumsum())) - self.true_positives
        self.n_positive, self.n_negative = int(positive.sum()), int((~positive).sum())
        above, below = np.concatenate(([1.0], values)), np.concatenate((values, [0.0]))
        middle = (above + below) / 2
        self.thresholds = np.where(middle > below, middle, above)
        if values[0] == 1:
            self.thresholds[0] = np.nextafter(1.0, 2.0)
        self.gaps = above - below

    @property
    def sensitivity(self) -> FloatArray:
        """Share of the positive films called positive, float64 [k]."""
        return np.asarray(self.true_positives / self.n_positive)

    @property
    def specificity(self) -> FloatArray:
        """Share of the negative films called negative, float64 [k]."""
        return np.asarray(1 - self.false_positives / self.n_negative)

    @property
    def mixed(self) -> NDArray[np.bool_]:
        """Whether some films are called positive and some negative, bool [k]."""
        called = self.true_positives + self.false_positives
        return np.asarray((called > 0) & (called < self.n_positive + self.n_negative))

    def best(self, *objectives: ArrayLike, among: NDArray[np.bool_] | None = None) -> int:
        """The cut with the largest first objective; ties go to the next one, then as the module says.

        Args:
            objectives: each [k].
            among: bool [k], the cuts that are allowed.
        """
        left = np.flatnonzero(np.ones(len(self.gaps), dtype=bool) if among is None else among)
        for objective in (*objectives, self.mixed, self.gaps):
            values = np.asarray(objective, dtype=np.float64)[left]
            left = left[values >= values.max() - ROUNDING * max(1.0, abs(values.max()))]
        return int(left[-1])

    def describe(self, index: int) -> str:
        """What the cut reaches, as a sentence."""
        reached = (
            f"At {self.thresholds[index]:.4g} sensitivity is {self.sensitivity[index]:.3f} and specificity "
            f"{self.specificity[index]:.3f} on {self.n_positive} positive and {self.n_negative} negative "
            "validation films."
        )
        if self.mixed[index]:
            return reached
        answer = "positive" if self.true_positives[index] else "negative"
        return f"{reached} Every film is called {answer}."


@dataclass(frozen=True)
class Policy(ABC):
    """What a threshold is chosen for."""

    rule: ClassVar[str]

    def choose(self, y_true: ArrayLike, probability: ArrayLike) -> Choice:
        """Choose a threshold on validation films.

        Args:
            y_true: [n], 1 positive, 0 negative; films with NaN are left out.
            probability: [n], calibrated, in [0, 1].

        Returns:
            The choice. A policy that cannot be met gets the threshold that comes closest, and films of one
            class only get ``FALLBACK``, both with ``met`` false and a message.

        Raises:
            UserError: the model gave NaN.
            ValueError: see :func:`cxr_pipeline.metrics.known_films`.
        """
        positive, probability = known_films(y_true, probability)
        if positive.all() or not positive.any():
            return self._without_classes(int(positive.sum()), int((~positive).sum()))
        return self._choose(Cuts(positive, probability))

    def to_dict(self) -> dict[str, Any]:
        """The rule and its values, as in the configuration."""
        return {"rule": self.rule, **asdict(self)}

    @abstractmethod
    def _choose(self, cuts: Cuts) -> Choice:
        """Choose where films of both classes are there."""

    def _without_classes(self, n_positive: int, n_negative: int) -> Choice:
        message = (
            f"The policy {self.rule!r} needs validation films of both classes, found {n_positive} positive and "
            f"{n_negative} negative. The threshold stays at {FALLBACK}."
        )
        return Choice(FALLBACK, met=False, message=message)


@dataclass(frozen=True)
class Fixed(Policy):
    """The threshold itself.

    Args:
        value: in [0, 1].
    """

    rule: ClassVar[str] = "fixed"
    value: float

    def _choose(self, cuts: Cuts) -> Choice:
        # Cuts fall: the first one at or below the value calls as many films positive as the value does.
        raise NotImplementedError
