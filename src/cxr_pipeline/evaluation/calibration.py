"""Calibration: from scores of a network to probabilities that match observed frequencies.

The calibration of one output is strictly increasing. It keeps the order of the images, and therefore AUC and average
precision.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, log_softmax, logit, logsumexp

from cxr_pipeline.evaluation.metrics import known_images

FloatArray = NDArray[np.float64]

TIE_BREAK = 1e-6
COMPRESSION = 16.0
TEMPERATURES = (0.05, 100.0)
# An image whose score rounds to 0 or 1 must not dominate a fit.
FITTED_LOGIT = 16.0
LEAST = np.finfo(np.float64).tiny
METHODS = ("none", "temperature", "platt")


@dataclass(frozen=True)
class OutputCalibration:
    """The calibration of one output, or of all exclusive classes at once.

    ``method`` is one of ``METHODS``, ``message`` a warning about the fit or empty. ``fitted`` has the ``temperature``,
    or ``slope`` and ``intercept``.
    """

    method: str = "none"
    message: str = ""
    fitted: Mapping[str, float] = field(default_factory=dict)

    def apply(self, y_score: FloatArray) -> FloatArray:
        """Convert scores [n] of one output to probabilities [n], in (0, 1).

        Because a fitted curve may be flat, a fraction ``TIE_BREAK`` of the score is added to it, on a compressed logit
        scale on which scores near 0 and 1 remain distinct.
        """
        if self.method == "none":
            return y_score
        logits = _logit(y_score)
        if self.method == "temperature":
            curve = expit(logits / self.fitted["temperature"])
        else:
            curve = expit(self.fitted["slope"] * logits + self.fitted["intercept"])
        return np.asarray((1 - TIE_BREAK) * curve + TIE_BREAK * expit(logits / COMPRESSION))

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"method": self.method, "message": self.message, **self.fitted}


@dataclass(frozen=True)
class Calibration:
    """A map from the scores of k outputs to their probabilities.

    ``parts`` are the calibration of each output, or a single one of all exclusive classes at once. Exclusive classes
    that are calibrated one by one, each against the rest, are scaled to sum to one (Zadrozny, Elkan, "Transforming
    classifier scores into accurate multiclass probability estimates", KDD 2002).
    """

    parts: tuple[OutputCalibration, ...]
    exclusive: bool

    @property
    def message(self) -> str:
        """The warning about all classes at once, or an empty string."""
        return self.parts[0].message if self._at_once else ""

    def message_of(self, column: int) -> str:
        """Return the warning about one output, or an empty string."""
        return "" if self._at_once else self.parts[column].message

    def apply(self, y_score: FloatArray) -> FloatArray:
        """Convert scores [n, k], in [0, 1], to probabilities [n, k]."""
        if self._at_once:
            temperature = self.parts[0].fitted.get("temperature")
            return y_score if temperature is None else np.exp(log_softmax(_log(y_score) / temperature, axis=1))
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


def fit_calibration(method: str, y_true: FloatArray, y_score: FloatArray, *, exclusive: bool) -> Calibration:
    """Fit a calibration to validation images.

    The temperature of exclusive classes is fitted to all at once, Platt scaling to each class against the rest. Where
    all images belong to one class, nothing can be fitted: the scores stay unchanged, with a message.

    ``method`` is one of ``METHODS``. Labels [n, k] are 1 positive, 0 negative, one-hot if the classes are exclusive;
    NaN, for unknown, is left out. ``y_score`` has the outputs of the network, [n, k], in [0, 1].

    Example:
        >>> y_true, y_score = np.array([[0], [0], [1], [1]]), np.array([[0.2], [0.4], [0.6], [0.8]])
        >>> fit_calibration("platt", y_true, y_score, exclusive=False).apply(np.array([[0.5]])).round(2)
        array([[0.5]])
    """
    if exclusive:
        known = ~np.isnan(y_true).any(axis=1)
        y_true, y_score = y_true[known], y_score[known]
        n_classes = int((y_true == 1).any(axis=0).sum())
        if method == "none":
            return Calibration((OutputCalibration(),), exclusive)
        if n_classes < 2:
            return Calibration((_skipped(f"two classes, found {n_classes}"),), exclusive)
        if method == "temperature":
            return Calibration((_fit_class_temperature(y_true == 1, y_score),), exclusive)
    columns = zip(y_true.T, y_score.T, strict=True)
    return Calibration(tuple(_fit(method, *column) for column in columns), exclusive)


def calibration_from_dict(values: Mapping[str, Any], *, exclusive: bool) -> Calibration:
    """Restore a calibration exactly from its JSON form; raise `ValueError` for an unknown method."""
    parts = values.get("parts", [values]) if exclusive else values.values()
    restored = []
    for part in parts:
        if part["method"] not in METHODS:
            raise ValueError(f"the calibration {part['method']!r} is none of {', '.join(METHODS)}")
        fitted = {name: value for name, value in part.items() if name not in ("method", "message")}
        restored.append(OutputCalibration(part["method"], part["message"], fitted))
    return Calibration(tuple(restored), exclusive)


def _fit(method: str, y_true: FloatArray, y_score: FloatArray) -> OutputCalibration:
    """Fit the calibration of one output; labels and scores are [n]."""
    if method == "none":
        return OutputCalibration()
    positive, scores = known_images(y_true, y_score)
    if positive.all() or not positive.any():
        found = f"{positive.sum()} positive and {(~positive).sum()} negative"
        return _skipped(f"both classes, found {found}")
    logits = np.clip(_logit(scores), -FITTED_LOGIT, FITTED_LOGIT)
    return _fit_temperature(positive, logits) if method == "temperature" else _fit_platt(positive, logits)


def _skipped(needed: str) -> OutputCalibration:
    return OutputCalibration(message=f"The calibration was skipped: it needs validation images of {needed}.")


def _fit_temperature(positive: NDArray[np.bool_], logits: FloatArray) -> OutputCalibration:
    """Divide the logit by one number, above 1 if the network is overconfident.

    See Guo, Pleiss, Sun, Weinberger, "On calibration of modern neural networks", ICML 2017.
    """
    margins = np.where(positive, logits, -logits)
    return _minimise(
        lambda temperature: float(np.logaddexp(0, -margins / temperature).mean()),
        at_highest="the further the validation scores are from 0.5, the more often they are wrong. The order of the "
        "images is kept. Try Platt scaling, which can also shift the scores, and check the labels.",
        at_lowest="every validation image is on the correct side of 0.5, so that the confidence cannot be estimated.",
    )


def _fit_class_temperature(positive: NDArray[np.bool_], y_score: FloatArray) -> OutputCalibration:
    """Divide the logits of exclusive classes, [n, k], by one number, which keeps the order of the classes."""
    logits = np.maximum(_log(y_score), -FITTED_LOGIT)
    lead = logits - (logits * positive).sum(axis=1, keepdims=True)
    lead[positive] = -np.inf
    return _minimise(
        lambda temperature: float(np.logaddexp(0, logsumexp(lead / temperature, axis=1)).mean()),
        at_highest="the more confident the scores of the validation images are, the more often they are wrong. Check "
        "the labels and the class order.",
        at_lowest="every validation image has its highest score in its class, so that the confidence cannot be "
        "estimated.",
    )


def _minimise(loss: Callable[[float], float], *, at_highest: str, at_lowest: str) -> OutputCalibration:
    """Find the temperature in ``TEMPERATURES`` with the smallest loss, and explain why it is a limit if it is one."""
    from scipy.optimize import minimize_scalar

    lowest, highest = np.log(TEMPERATURES)
    result = minimize_scalar(
        lambda log_temperature: loss(np.exp(log_temperature)),
        bounds=(lowest, highest),
        method="bounded",
        options={"xatol": 1e-9},
    )
    message = ""
    for limit, reason in ((lowest, at_lowest), (highest, at_highest)):
        if abs(result.x - limit) < 1e-3:
            message = f"Temperature scaling stopped at its limit of {np.exp(limit):g}: {reason}"
    return OutputCalibration("temperature", message, {"temperature": float(np.exp(result.x))})


def _fit_platt(positive: NDArray[np.bool_], logits: FloatArray) -> OutputCalibration:
    """Fit a logistic regression on the logit, with a slope of at least 0.

    See Platt, "Probabilistic outputs for support vector machines and comparisons to regularized likelihood methods",
    Advances in large margin classifiers, 1999. Its targets lie inside (0, 1), so that the fit is finite even if the
    classes are separated.
    """
    from scipy.optimize import minimize

    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    target = np.where(positive, (n_positive + 1) / (n_positive + 2), 1 / (n_negative + 2))

    def loss(line: FloatArray) -> tuple[float, FloatArray]:
        curve = line[0] * logits + line[1]
        residual = expit(curve) - target
        gradient = np.array([(residual * logits).mean(), residual.mean()])
        return float((np.logaddexp(0, curve) - target * curve).mean()), gradient

    constant = float(_logit(target.mean()))
    result = minimize(loss, x0=(0.0, constant), jac=True, method="BFGS", options={"gtol": 1e-9})
    slope, intercept = map(float, result.x)
    if slope > 0:
        return OutputCalibration("platt", "", {"slope": slope, "intercept": intercept})
    message = (
        f"Platt scaling found a slope of {slope:.3g}: on the validation images, higher scores do not mean more "
        "positive images. All probabilities are close to the prevalence. Check the labels and the order of the classes."
    )
    return OutputCalibration("platt", message, {"slope": 0.0, "intercept": constant})


def _logit(probability: ArrayLike) -> FloatArray:
    """Return log-odds that are finite at 0 and 1, and distinct for distinct float32 values."""
    return np.asarray(logit(np.clip(probability, LEAST, 1 - np.finfo(np.float64).epsneg)))


def _log(y_score: FloatArray) -> FloatArray:
    return np.asarray(np.log(np.maximum(y_score, LEAST)))
