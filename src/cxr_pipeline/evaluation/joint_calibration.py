"""Calibration of several outputs at once."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cxr_pipeline.evaluation.calibration import (
    FITTED_LOGIT,
    TEMPERATURES,
    Calibration,
    Temperature,
    calibration_from_dict,
    fit_calibration,
    fit_temperature,
)

FloatArray = NDArray[np.float64]


class JointCalibration(ABC):
    """A map from the scores of k outputs to their probabilities."""

    message: str = ""

    @abstractmethod
    def apply(self, y_score: FloatArray) -> FloatArray:
        """Convert scores [n, k] to probabilities [n, k]."""

    @abstractmethod
    def to_dict(self, outputs: Sequence[str]) -> dict[str, Any]:
        """Return the JSON form, from which :func:`joint_calibration_from_dict` restores it exactly."""

    def message_of(self, column: int) -> str:
        """Return the warning about one output, or an empty string."""
        return ""


@dataclass(frozen=True)
class OneByOne(JointCalibration):
    """Outputs calibrated independently.

    Args:
        parts: the calibration of each output.
    """

    parts: tuple[Calibration, ...]

    @classmethod
    def fit(cls, method: str, y_true: FloatArray, y_score: FloatArray) -> Self:
        """Fit a calibration to each column of both arrays, [n, k]."""
        columns = zip(y_true.T, y_score.T, strict=True)
        return cls(tuple(fit_calibration(method, true, scores) for true, scores in columns))

    def apply(self, y_score: FloatArray) -> FloatArray:
        """Convert scores [n, k] to probabilities [n, k]."""
        return np.stack([part.apply(y_score[:, column]) for column, part in enumerate(self.parts)], axis=1)

    def to_dict(self, outputs: Sequence[str]) -> dict[str, Any]:
        """Return the JSON form of each calibration by output."""
        return {name: part.to_dict() for name, part in zip(outputs, self.parts, strict=True)}

    def message_of(self, column: int) -> str:
        """Return the warning about one output."""
        return self.parts[column].message


class OneAgainstRest(OneByOne):
    """Exclusive classes, each calibrated against the rest; their probabilities are scaled to sum to one.

    References:
        Zadrozny, Elkan, "Transforming classifier scores into accurate multiclass probability estimates", KDD 2002.
    """

    def apply(self, y_score: FloatArray) -> FloatArray:
        """Convert scores [n, k] to probabilities [n, k] that sum to one."""
        alone = super().apply(y_score)
        return np.asarray(alone / alone.sum(axis=1, keepdims=True))

    def to_dict(self, outputs: Sequence[str]) -> dict[str, Any]:
        """Return the JSON form."""
        return {"method": "one_against_rest", "parts": [part.to_dict() for part in self.parts]}


@dataclass(frozen=True)
class Unchanged(JointCalibration):
    """The scores of exclusive classes, unchanged."""

    message: str = ""

    def apply(self, y_score: FloatArray) -> FloatArray:
        """Return a copy of the scores."""
        return y_score.copy()

    def to_dict(self, outputs: Sequence[str]) -> dict[str, Any]:
        """Return the JSON form."""
        return {"method": "none", "message": self.message}


@dataclass(frozen=True)
class SharedTemperature(JointCalibration):
    """The logits of exclusive classes, divided by one number. The order of the classes of an image is kept.

    Args:
        temperature: above 1 if the network is overconfident.
        message: warning about the fit, or an empty string.

    References:
        Guo, Pleiss, Sun, Weinberger, "On calibration of modern neural networks", ICML 2017.
    """

    temperature: float
    message: str = ""

    @classmethod
    def fit(cls, y_true: FloatArray, y_score: FloatArray) -> Self:
        """Minimise the negative log-likelihood over temperatures in ``TEMPERATURES``; both arrays are [n, k]."""
        from scipy.special import logsumexp

        logits = np.maximum(_log(y_score), -FITTED_LOGIT)
        lead = logits - (logits * y_true).sum(axis=1, keepdims=True)
        lead[y_true == 1] = -np.inf
        temperature, limit = fit_temperature(
            lambda temperature: float(np.logaddexp(0, logsumexp(lead / temperature, axis=1)).mean())
        )
        message = {
            "": "",
            "upper": (
                f"Temperature scaling stopped at its limit of {TEMPERATURES[1]:g}: the more confident the scores of "
                "the validation images are, the more often they are wrong. Check the labels and the class order."
            ),
            "lower": (
                f"Temperature scaling stopped at its limit of {TEMPERATURES[0]:g}: every validation image has its "
                "highest score in its class, so that the confidence cannot be estimated."
            ),
        }[limit]
        return cls(temperature, message)

    def apply(self, y_score: FloatArray) -> FloatArray:
        """Convert scores [n, k] to probabilities [n, k] that sum to one."""
        from scipy.special import log_softmax

        return np.asarray(np.exp(log_softmax(_log(y_score) / self.temperature, axis=1)))

    def to_dict(self, outputs: Sequence[str]) -> dict[str, Any]:
        """Return the JSON form."""
        return {"method": Temperature.method, "temperature": self.temperature, "message": self.message}


def fit_joint_calibration(method: str, y_true: FloatArray, y_score: FloatArray) -> JointCalibration:
    """Fit a calibration of exclusive classes to validation images.

    Args:
        method: ``none``, ``temperature``, or ``platt`` or ``isotonic`` for each class against the rest.
        y_true: [n, k], one-hot; images with NaN are left out.
        y_score: [n, k], the softmax output of the network.

    Returns:
        The calibration. If all images belong to one class, nothing can be fitted: the scores stay unchanged and
        ``message`` says so.

    Raises:
        ValueError: the method is unknown.
    """
    known = ~np.isnan(y_true).any(axis=1)
    true, scores = y_true[known], y_score[known]
    if method == "none":
        return Unchanged()
    n_classes = int((true > 0).any(axis=0).sum())
    if n_classes < 2:
        return Unchanged(
            f"The calibration {method!r} was skipped: it needs validation images of two classes, found {n_classes}."
        )
    if method == Temperature.method:
        return SharedTemperature.fit(true, scores)
    return OneAgainstRest.fit(method, true, scores)


def joint_calibration_from_dict(values: Mapping[str, Any], *, exclusive: bool) -> JointCalibration:
    """Restore a calibration from its JSON form.

    Args:
        values: the JSON form.
        exclusive: whether the classes are exclusive.
    """
    if not exclusive:
        return OneByOne(tuple(calibration_from_dict(part) for part in values.values()))
    if "parts" in values:
        return OneAgainstRest(tuple(calibration_from_dict(part) for part in values["parts"]))
    if "temperature" in values:
        return SharedTemperature(float(values["temperature"]), values["message"])
    return Unchanged(values["message"])


def _log(y_score: FloatArray) -> FloatArray:
    return np.log(np.maximum(y_score, np.finfo(np.float64).tiny))
