"""From the scores of exclusive classes to probabilities that can be read as frequencies and sum to one."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
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
)

FloatArray = NDArray[np.float64]


class JointCalibration(ABC):
    """A map from the scores of k exclusive classes to their probabilities."""

    message: str

    @abstractmethod
    def apply(self, y_score: FloatArray) -> FloatArray:
        """Turn scores [n, k] into probabilities [n, k] that sum to one."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """The JSON form, from which :func:`joint_calibration_from_dict` restores it to the last bit."""

    def about(self, place: int) -> str:
        """What is to be known about the class at this place; empty if nothing."""
        return ""


@dataclass(frozen=True)
class Unchanged(JointCalibration):
    """The scores as they are."""

    message: str = ""

    def apply(self, y_score: FloatArray) -> FloatArray:
        """The scores, copied."""
        return y_score.copy()

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {"method": "none", "message": self.message}


@dataclass(frozen=True)
class SharedTemperature(JointCalibration):
    """The logits of all classes divided by one number, which keeps the order of the classes of an image.

    Args:
        temperature: above 1 where the network is too sure of itself.
        message: what its user should know about the fit.

    References:
        Guo, Pleiss, Sun, Weinberger, "On calibration of modern neural networks", ICML 2017.
    """

    temperature: float
    message: str = ""

    @classmethod
    def fit(cls, y_true: FloatArray, y_score: FloatArray) -> Self:
        """Minimise the negative log-likelihood over temperatures in ``TEMPERATURES``, both arrays [n, k]."""
        from scipy.optimize import minimize_scalar
        from scipy.special import logsumexp

        logits = np.maximum(_log(y_score), -FITTED_LOGIT)
        lead = logits - (logits * y_true).sum(axis=1, keepdims=True)
        lead[y_true == 1] = -np.inf
        lowest, highest = np.log(TEMPERATURES)
        found = minimize_scalar(
            lambda log_temperature: np.logaddexp(0, logsumexp(lead / np.exp(log_temperature), axis=1)).mean(),
            bounds=(lowest, highest),
            method="bounded",
            options={"xatol": 1e-9},
        )
        message = ""
        if found.x > highest - 1e-3:
            message = (
                f"Temperature scaling stopped at its limit of {TEMPERATURES[1]:g}: the surer the scores of the "
                "validation images are, the more often they are wrong. Look at the labels and at the order of the "
                "classes."
            )
        elif found.x < lowest + 1e-3:
            message = (
                f"Temperature scaling stopped at its limit of {TEMPERATURES[0]:g}: every validation image has its "
                "highest score in its class, and how sure the scores should be cannot be told."
            )
        return cls(float(np.exp(found.x)), message)

    def apply(self, y_score: FloatArray) -> FloatArray:
        """Probabilities [n, k] that sum to one."""
        return np.exp(_log_softmax(_log(y_score) / self.temperature))

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {"method": Temperature.method, "temperature": self.temperature, "message": self.message}


@dataclass(frozen=True)
class OneAgainstRest(JointCalibration):
    """Each class calibrated alone, and the probabilities scaled to sum to one.

    Args:
        parts: a calibration for each class, which says itself what is to be known about it.

    References:
        Zadrozny, Elkan, "Transforming classifier scores into accurate multiclass probability estimates", KDD 2002.
    """

    parts: tuple[Calibration, ...]
    message = ""

    def apply(self, y_score: FloatArray) -> FloatArray:
        """Probabilities [n, k] that sum to one."""
        alone = np.stack([part.apply(y_score[:, place]) for place, part in enumerate(self.parts)], axis=1)
        return np.asarray(alone / alone.sum(axis=1, keepdims=True))

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {"method": "one_against_rest", "parts": [part.to_dict() for part in self.parts]}

    def about(self, place: int) -> str:
        """What the calibration of the class at this place says."""
        return self.parts[place].message


def fit_joint_calibration(method: str, y_true: FloatArray, y_score: FloatArray) -> JointCalibration:
    """Fit to validation images.

    Args:
        method: ``none``, ``temperature``, or ``platt`` or ``isotonic`` for each class against the rest.
        y_true: [n, k], one-hot; images with NaN are left out.
        y_score: [n, k], the network's softmax output.

    Returns:
        The calibration. Where the images are all of one class nothing can be fitted: the scores are left as they are,
        and ``message`` says so.

    Raises:
        ValueError: the method is unknown.
    """
    known = ~np.isnan(y_true).any(axis=1)
    true, scores = y_true[known], y_score[known]
    if method == "none":
        return Unchanged()
    n_found = int((true > 0).any(axis=0).sum())
    if n_found < 2:
        message = (
            f"The calibration {method!r} was left out: it needs validation images of two classes, found {n_found}."
        )
        return Unchanged(message)
    if method == Temperature.method:
        return SharedTemperature.fit(true, scores)
    return OneAgainstRest(
        tuple(fit_calibration(method, true[:, place], scores[:, place]) for place in range(scores.shape[1]))
    )


def joint_calibration_from_dict(values: Mapping[str, Any]) -> JointCalibration:
    """Restore a calibration from its JSON form."""
    if "parts" in values:
        return OneAgainstRest(tuple(calibration_from_dict(part) for part in values["parts"]))
    if "temperature" in values:
        return SharedTemperature(float(values["temperature"]), values["message"])
    return Unchanged(values["message"])


def _log(y_score: FloatArray) -> FloatArray:
    return np.log(np.maximum(y_score, np.finfo(np.float64).tiny))


def _log_softmax(logits: FloatArray) -> FloatArray:
    from scipy.special import log_softmax

    return np.asarray(log_softmax(logits, axis=1))
