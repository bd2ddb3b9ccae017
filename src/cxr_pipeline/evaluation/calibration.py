"""Calibration of one output: from scores of a network to probabilities that match observed frequencies.

Every calibration is strictly increasing. It keeps the order of the images, and therefore AUC and average precision.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxr_pipeline.evaluation.metrics import known_images

FloatArray = NDArray[np.float64]

TIE_BREAK = 1e-6
COMPRESSION = 16.0
TEMPERATURES = (0.05, 100.0)
# An image whose score rounds to 0 or 1 must not dominate a fit.
FITTED_LOGIT = 16.0


@dataclass(frozen=True)
class Calibration(ABC):
    """A strictly increasing map from score to probability; ``message`` is a warning about its fit, or empty."""

    method: ClassVar[str]
    message: str = field(default="", kw_only=True)

    @classmethod
    def fit(cls, positive: NDArray[np.bool_], y_score: FloatArray) -> Self:
        """Fit to images of both classes; both arrays are [n]. Without parameters, there is nothing to fit."""
        return cls()

    @abstractmethod
    def _curve(self, y_score: FloatArray) -> FloatArray:
        """Return the fitted curve, which may be flat in places."""

    def apply(self, y_score: ArrayLike) -> FloatArray:
        """Convert scores [...], in [0, 1], to probabilities of the same shape, float64, in (0, 1).

        Because a fitted curve may be flat in places, a fraction ``TIE_BREAK`` of the score is added to it, on a
        compressed logit scale on which scores near 0 and 1 remain distinct.
        """
        scores = np.asarray(y_score, dtype=np.float64)
        return (1 - TIE_BREAK) * self._curve(scores) + TIE_BREAK * _expit(_logit(scores) / COMPRESSION)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, from which :func:`calibration_from_dict` restores it exactly."""
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        return {"method": self.method, **values}


@dataclass(frozen=True)
class Identity(Calibration):
    """The score, unchanged."""

    method: ClassVar[str] = "none"

    def _curve(self, y_score: FloatArray) -> FloatArray:
        return y_score

    def apply(self, y_score: ArrayLike) -> FloatArray:
        """Return a float64 copy of the scores."""
        return np.array(y_score, dtype=np.float64)


@dataclass(frozen=True)
class Temperature(Calibration):
    """Temperature scaling: the logit divided by one number, above 1 if the network is overconfident.

    See Guo, Pleiss, Sun, Weinberger, "On calibration of modern neural networks", ICML 2017.
    """

    method: ClassVar[str] = "temperature"
    temperature: float

    @classmethod
    def fit(cls, positive: NDArray[np.bool_], y_score: FloatArray) -> Self:
        """Minimise the negative log-likelihood over temperatures in ``TEMPERATURES``."""
        logits = _fitted_logits(y_score)
        margins = np.where(positive, logits, -logits)
        temperature, message = fit_temperature(
            lambda temperature: float(np.logaddexp(0, -margins / temperature).mean()),
            at_highest="the further the validation scores are from 0.5, the more often they are wrong. The order of "
            "the images is kept. Try Platt scaling, which can also shift the scores, and check the labels.",
            at_lowest="every validation image is on the correct side of 0.5, so that the confidence cannot be "
            "estimated.",
        )
        return cls(temperature, message=message)

    def _curve(self, y_score: FloatArray) -> FloatArray:
        return _expit(_logit(y_score) / self.temperature)


@dataclass(frozen=True)
class Platt(Calibration):
    """Platt scaling: a logistic regression on the logit, with a slope of at least 0.

    See Platt, "Probabilistic outputs for support vector machines and comparisons to regularized likelihood methods",
    Advances in large margin classifiers, 1999. Its targets lie inside (0, 1), so that the fit is finite even if the
    classes are separated.
    """

    method: ClassVar[str] = "platt"
    slope: float
    intercept: float

    @classmethod
    def fit(cls, positive: NDArray[np.bool_], y_score: FloatArray) -> Self:
        """Fit to Platt's smoothed targets; a decreasing line is replaced by a constant."""
        from scipy.optimize import minimize

        n_positive, n_negative = int(positive.sum()), int((~positive).sum())
        target = np.where(positive, (n_positive + 1) / (n_positive + 2), 1 / (n_negative + 2))
        logits = _fitted_logits(y_score)

        def loss(line: FloatArray) -> tuple[float, FloatArray]:
            fitted = line[0] * logits + line[1]
            residual = _expit(fitted) - target
            gradient = np.array([(residual * logits).mean(), residual.mean()])
            return float((np.logaddexp(0, fitted) - target * fitted).mean()), gradient

        constant = float(_logit(target.mean()))
        result = minimize(loss, x0=(0.0, constant), jac=True, method="BFGS", options={"gtol": 1e-9})
        slope, intercept = (float(number) for number in result.x)
        if slope > 0:
            return cls(slope, intercept)
        return cls(0.0, constant, message=_not_increasing(f"Platt scaling found a slope of {slope:.3g}"))

    def _curve(self, y_score: FloatArray) -> FloatArray:
        return _expit(self.slope * _logit(y_score) + self.intercept)


@dataclass(frozen=True)
class Isotonic(Calibration):
    """Isotonic regression with interpolated steps. It needs some hundreds of images of each class.

    See Zadrozny, Elkan, "Transforming classifier scores into accurate multiclass probability estimates", KDD 2002.

    Args:
        scores: knots of the curve, increasing.
        probabilities: values at the knots, not decreasing.
    """

    method: ClassVar[str] = "isotonic"
    scores: tuple[float, ...]
    probabilities: tuple[float, ...]

    @classmethod
    def fit(cls, positive: NDArray[np.bool_], y_score: FloatArray) -> Self:
        """Fit by pooling adjacent violators."""
        from sklearn.isotonic import IsotonicRegression

        regression = IsotonicRegression(y_min=0, y_max=1).fit(y_score, positive.astype(np.float64))
        scores = tuple(regression.X_thresholds_.astype(float).tolist())
        probabilities = tuple(regression.y_thresholds_.astype(float).tolist())
        is_constant = probabilities[0] == probabilities[-1]
        return cls(
            scores, probabilities, message=_not_increasing("Isotonic calibration is constant") if is_constant else ""
        )

    def _curve(self, y_score: FloatArray) -> FloatArray:
        return np.interp(y_score, self.scores, self.probabilities)


METHODS: dict[str, type[Calibration]] = {kind.method: kind for kind in (Identity, Temperature, Platt, Isotonic)}


def fit_calibration(method: str, y_true: ArrayLike, y_score: ArrayLike) -> Calibration:
    """Fit a calibration to validation images.

    If all images belong to one class, nothing can be fitted: the scores stay unchanged, with a ``message``.

    Args:
        method: ``none``, ``temperature``, ``platt`` or ``isotonic``.
        y_true: [n], 1 positive, 0 negative; images with NaN are left out.
        y_score: [n], the sigmoid output of the network, in [0, 1].

    Raises:
        ValueError: the method is unknown.

    Example:
        >>> fit_calibration("platt", [0, 0, 1, 1], [0.2, 0.4, 0.6, 0.8]).apply(0.5).round(2).item()
        0.5
    """
    kind = _method(method)
    positive, scores = known_images(y_true, y_score)
    if kind is not Identity and (positive.all() or not positive.any()):
        return Identity(
            message=f"The calibration {method!r} was skipped: it needs validation images of both classes, found "
            f"{positive.sum()} positive and {(~positive).sum()} negative."
        )
    return kind.fit(positive, scores)


def fit_temperature(loss: Callable[[float], float], *, at_highest: str, at_lowest: str) -> tuple[float, str]:
    """Return the temperature in ``TEMPERATURES`` with the smallest loss, and a warning if it is a limit, or ``""``.

    ``at_highest`` and ``at_lowest`` explain why a limit was reached.
    """
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
    return float(np.exp(result.x)), message


def calibration_from_dict(values: Mapping[str, Any]) -> Calibration:
    """Restore a calibration from its JSON form."""
    arguments: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in values.items() if name != "method"
    }
    return _method(values["method"])(**arguments)


def _method(name: str) -> type[Calibration]:
    if name not in METHODS:
        raise ValueError(f"Calibration must be one of {', '.join(METHODS)}. Received: method={name!r}")
    return METHODS[name]


def _not_increasing(problem: str) -> str:
    return (
        f"{problem}: on the validation images, higher scores do not mean more positive images. All probabilities are "
        "close to the prevalence. Check the labels and the order of the classes."
    )


def _logit(probability: ArrayLike) -> FloatArray:
    """Return log-odds that are finite at 0 and 1, and distinct for distinct float32 values."""
    from scipy.special import logit

    return np.asarray(logit(np.clip(probability, np.finfo(np.float64).tiny, 1 - np.finfo(np.float64).epsneg)))


def _expit(logits: FloatArray) -> FloatArray:
    from scipy.special import expit

    return np.asarray(expit(logits))


def _fitted_logits(y_score: FloatArray) -> FloatArray:
    return np.clip(_logit(y_score), -FITTED_LOGIT, FITTED_LOGIT)
