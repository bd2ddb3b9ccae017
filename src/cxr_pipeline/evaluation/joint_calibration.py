"""Calibration of the outputs of a network: one by one, or of exclusive classes at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxr_pipeline.evaluation.calibration import (
    FITTED_LOGIT,
    Calibration,
    Identity,
    Temperature,
    calibration_from_dict,
    fit_calibration,
    fit_temperature,
)

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class SharedTemperature(Temperature):
    """The logits of exclusive classes, divided by one number. The order of the classes of an image is kept."""

    @classmethod
    def fit(cls, positive: NDArray[np.bool_], y_score: FloatArray) -> Self:
        """Minimise the negative log-likelihood over temperatures in ``TEMPERATURES``; both arrays are [n, k]."""
        from scipy.special import logsumexp

        logits = np.maximum(_log(y_score), -FITTED_LOGIT)
        lead = logits - (logits * positive).sum(axis=1, keepdims=True)
        lead[positive] = -np.inf
        temperature, message = fit_temperature(
            lambda temperature: float(np.logaddexp(0, logsumexp(lead / temperature, axis=1)).mean()),
            at_highest="the more confident the scores of the validation images are, the more often they are wrong. "
            "Check the labels and the class order.",
            at_lowest="every validation image has its highest score in its class, so that the confidence cannot be "
            "estimated.",
        )
        return cls(temperature, message=message)

    def apply(self, y_score: ArrayLike) -> FloatArray:
        """Convert scores [n, k] to probabilities [n, k] that sum to one."""
        from scipy.special import log_softmax

        return np.asarray(np.exp(log_softmax(_log(y_score) / self.temperature, axis=1)))


@dataclass(frozen=True)
class JointCalibration:
    """A map from the scores of k outputs to their probabilities.

    Args:
        parts: the calibration of each output, or a single one of all exclusive classes at once.
        exclusive: whether the classes are exclusive. Those calibrated one by one, each against the rest, are scaled to
            sum to one (Zadrozny, Elkan, "Transforming classifier scores into accurate multiclass probability
            estimates", KDD 2002).
    """

    parts: tuple[Calibration, ...]
    exclusive: bool

    @property
    def message(self) -> str:
        """The warning about all classes at once, or an empty string."""
        return self.parts[0].message if self._at_once else ""

    def message_of(self, column: int) -> str:
        """Return the warning about one output, or an empty string."""
        return "" if self._at_once else self.parts[column].message

    def apply(self, y_score: FloatArray) -> FloatArray:
        """Convert scores [n, k] to probabilities [n, k]."""
        if self._at_once:
            return self.parts[0].apply(y_score)
        alone = np.stack([part.apply(y_score[:, column]) for column, part in enumerate(self.parts)], axis=1)
        return alone / alone.sum(axis=1, keepdims=True) if self.exclusive else alone

    def to_dict(self, outputs: Sequence[str]) -> dict[str, Any]:
        """Return the JSON form: of all classes, or by output."""
        parts = [part.to_dict() for part in self.parts]
        if self.exclusive:
            return parts[0] if self._at_once else {"method": "one_against_rest", "parts": parts}
        return dict(zip(outputs, parts, strict=True))

    @property
    def _at_once(self) -> bool:
        return self.exclusive and len(self.parts) == 1


def fit_joint_calibration(method: str, y_true: FloatArray, y_score: FloatArray, *, exclusive: bool) -> JointCalibration:
    """Fit a calibration to validation images, as `fit_calibration` does for one output.

    The temperature of exclusive classes is fitted to all at once, the other methods to each class against the rest.

    Args:
        method: ``none``, ``temperature``, ``platt`` or ``isotonic``.
        y_true: [n, k], one-hot if exclusive; unknown labels (NaN) are left out.
        y_score: [n, k], the outputs of the network.
        exclusive: whether the classes are exclusive.
    """
    if exclusive:
        known = ~np.isnan(y_true).any(axis=1)
        y_true, y_score = y_true[known], y_score[known]
        at_once = _fit_at_once(method, y_true == 1, y_score)
        if at_once is not None:
            return JointCalibration((at_once,), exclusive)
    columns = zip(y_true.T, y_score.T, strict=True)
    return JointCalibration(tuple(fit_calibration(method, true, scores) for true, scores in columns), exclusive)


def joint_calibration_from_dict(values: Mapping[str, Any], *, exclusive: bool) -> JointCalibration:
    """Restore a calibration from its JSON form."""
    if exclusive and values["method"] == Temperature.method:
        return JointCalibration((SharedTemperature(values["temperature"], message=values["message"]),), exclusive=True)
    parts = values.get("parts", [values]) if exclusive else values.values()
    return JointCalibration(tuple(calibration_from_dict(part) for part in parts), exclusive)


def _fit_at_once(method: str, positive: NDArray[np.bool_], y_score: FloatArray) -> Calibration | None:
    """Return a single calibration of all classes, or None if each is calibrated against the rest."""
    n_classes = int(positive.any(axis=0).sum())
    if method == Identity.method:
        return Identity()
    if n_classes < 2:
        return Identity(
            message=f"The calibration {method!r} was skipped: it needs validation images of two classes, found "
            f"{n_classes}."
        )
    return SharedTemperature.fit(positive, y_score) if method == Temperature.method else None


def _log(y_score: ArrayLike) -> FloatArray:
    return np.asarray(np.log(np.maximum(y_score, np.finfo(np.float64).tiny)))
