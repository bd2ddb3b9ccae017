"""From a network's scores to probabilities that can be read as frequencies.

Every calibration is strictly rising: it changes what a probability means and never which of two images has
the higher one, so that AUC and average precision stay what they were. To that end a fitted curve is blended
with ``TIE_BREAK`` parts of the score itself, on a stretched logit scale where scores near 0 and 1 stay apart.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxr_pipeline.evaluation.metrics import known_images

FloatArray = NDArray[np.float64]

TIE_BREAK = 1e-6
STRETCH = 16.0
TEMPERATURES = (0.05, 100.0)
# An image whose score rounds to 0 or 1 must not outweigh all others in a fit.
FITTED_LOGIT = 16.0


@dataclass(frozen=True)
class Calibration(ABC):
    """A strictly rising map from score to probability.

    Args:
        message: what its user should know about the fit; empty if nothing.
    """

    method: ClassVar[str]
    message: str = field(default="", kw_only=True)

    @classmethod
    @abstractmethod
    def fit(cls, positive: NDArray[np.bool_], y_score: FloatArray) -> Self:
        """Fit to images of both classes; both arrays are [n]."""

    @abstractmethod
    def _curve(self, y_score: FloatArray) -> FloatArray:
        """The fitted curve, which may be flat in places."""

    def apply(self, y_score: ArrayLike) -> FloatArray:
        """Turn scores into probabilities.

        Args:
            y_score: [...], in [0, 1].

        Returns:
            Probabilities of the same shape, float64, between 0 and 1.
        """
        scores = np.asarray(y_score, dtype=np.float64)
        return (1 - TIE_BREAK) * self._curve(scores) + TIE_BREAK * _expit(_logit(scores) / STRETCH)

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, from which :func:`calibration_from_dict` restores it to the last bit."""
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        return {"method": self.method, **values}


@dataclass(frozen=True)
class Identity(Calibration):
    """The score as it is."""

    method: ClassVar[str] = "none"

    @classmethod
    def fit(cls, positive: NDArray[np.bool_], y_score: FloatArray) -> Self:
        """Nothing to fit."""
        return cls()

    def _curve(self, y_score: FloatArray) -> FloatArray:
        return y_score

    def apply(self, y_score: ArrayLike) -> FloatArray:
        """The scores, float64."""
        return self._curve(np.array(y_score, dtype=np.float64))


@dataclass(frozen=True)
class Temperature(Calibration):
    """The logit divided by one number.

    Args:
        temperature: above 1 where the network is too sure of itself.

    References:
        Guo, Pleiss, Sun, Weinberger, "On calibration of modern neural networks", ICML 2017.
    """

    method: ClassVar[str] = "temperature"
    temperature: float

    @classmethod
    def fit(cls, positive: NDArray[np.bool_], y_score: FloatArray) -> Self:
        """Minimise the negative log-likelihood over temperatures in ``TEMPERATURES``."""
        from scipy.optimize import minimize_scalar

        logits = _fitted_logits(y_score)
        margins = np.where(positive, logits, -logits)
        lowest, highest = np.log(TEMPERATURES)
        found = minimize_scalar(
            lambda log_temperature: np.logaddexp(0, -margins / np.exp(log_temperature)).mean(),
            bounds=(lowest, highest),
            method="bounded",
            options={"xatol": 1e-9},
        )
        message = ""
        if found.x > highest - 1e-3:
            message = (
                f"Temperature scaling stopped at its limit of {TEMPERATURES[1]:g}: the further the validation scores "
                "are from 0.5, the more often they are wrong. The order of the images is kept. Platt scaling can move "
                "the scores as well; if it fails too, look at the labels."
            )
        elif found.x < lowest + 1e-3:
            message = (
                f"Temperature scaling stopped at its limit of {TEMPERATURES[0]:g}: every validation image is on the "
                "right side of 0.5, and how sure the scores should be cannot be told."
            )
        return cls(temperature=float(np.exp(found.x)), message=message)

    def _curve(self, y_score: FloatArray) -> FloatArray:
        return _expit(_logit(y_score) / self.temperature)


@dataclass(frozen=True)
class Platt(Calibration):
    """A logistic regression on the logit.

    Args:
        slope: not below 0.
        intercept: what the logit is moved by.

    References:
        Platt, "Probabilistic outputs for support vector machines and comparisons to regularized likelihood
        methods", Advances in large margin classifiers, 1999: targets are drawn in from 0 and 1, so that the
        fit is finite even where the classes are separated.
    """

    method: ClassVar[str] = "platt"
    slope: float
    intercept: float

    @classmethod
    def fit(cls, positive: NDArray[np.bool_], y_score: FloatArray) -> Self:
        """Fit to Platt's smoothed targets; a falling line is replaced by a flat one."""
        from scipy.optimize import minimize

        n_positive, n_negative = int(positive.sum()), int((~positive).sum())
        target = np.where(positive, (n_positive + 1) / (n_positive + 2), 1 / (n_negative + 2))
        logits = _fitted_logits(y_score)

        def loss(line: FloatArray) -> tuple[float, FloatArray]:
            fitted = line[0] * logits + line[1]
            residual = _expit(fitted) - target
            gradient = np.array([(residual * logits).mean(), residual.mean()])
            return float((np.logaddexp(0, fitted) - target * fitted).mean()), gradient

        flat = float(_logit(target.mean()))
        found = minimize(loss, x0=(0.0, flat), jac=True, method="BFGS", options={"gtol": 1e-9})
        slope, intercept = (float(number) for number in found.x)
        if slope > 0:
            return cls(slope=slope, intercept=intercept)
        message = (
            f"Platt scaling found a slope of {slope:.3g}: on the validation images higher scores do not mean more "
            "positive images. Probabilities are held at the prevalence, in the order of the scores. Look at the labels "
            "and at the order of the classes."
        )
        return cls(slope=0.0, intercept=flat, message=message)

    def _curve(self, y_score: FloatArray) -> FloatArray:
        return _expit(self.slope * _logit(y_score) + self.intercept)


@dataclass(frozen=True)
class Isotonic(Calibration):
    """A rising step curve with sloping steps. It wants some hundreds of images of each class.

    Args:
        scores: rising, where the curve bends.
        probabilities: the curve there, not falling.

    References:
        Zadrozny, Elkan, "Transforming classifier scores into accurate multiclass probability estimates",
        KDD 2002.
    """

    method: ClassVar[str] = "isotonic"
    scores: tuple[float, ...]
    probabilities: tuple[float, ...]

    @classmethod
    def fit(cls, positive: NDArray[np.bool_], y_score: FloatArray) -> Self:
        """Fit by pooling adjacent violators."""
        from sklearn.isotonic import IsotonicRegression

        regression = IsotonicRegression(y_min=0, y_max=1).fit(y_score, positive.astype(np.float64))
        scores = tuple(float(score) for score in regression.X_thresholds_)
        probabilities = tuple(float(probability) for probability in regression.y_thresholds_)
        message = ""
        if probabilities[0] == probabilities[-1]:
            message = (
                "Isotonic calibration is flat: on the validation images higher scores do not mean more positive images. "
                "Probabilities are held at the prevalence, in the order of the scores. Look at the labels and at the "
                "order of the classes."
            )
        return cls(scores=scores, probabilities=probabilities, message=message)

    def _curve(self, y_score: FloatArray) -> FloatArray:
        return np.interp(y_score, self.scores, self.probabilities)


METHODS: dict[str, type[Calibration]] = {kind.method: kind for kind in (Identity, Temperature, Platt, Isotonic)}


def fit_calibration(method: str, y_true: ArrayLike, y_score: ArrayLike) -> Calibration:
    """Fit a calibration to validation images.

    Args:
        method: ``none``, ``temperature``, ``platt`` or ``isotonic``.
        y_true: [n], 1 positive, 0 negative; images with NaN are left out.
        y_score: [n], the network's sigmoid output in [0, 1].

    Returns:
        The calibration. Where the images are all of one class nothing can be fitted: the scores are left as
        they are, and ``message`` says so.

    Raises:
        UserError: the model gave NaN.
        ValueError: the method is unknown; see also :func:`cxr_pipeline.evaluation.metrics.known_images`.
    """
    kind = _method(method)
    positive, scores = known_images(y_true, y_score)
    if kind is not Identity and (positive.all() or not positive.any()):
        return Identity(
            message=f"The calibration {method!r} was left out: it needs validation images of both classes, found "
            f"{positive.sum()} positive and {(~positive).sum()} negative."
        )
    return kind.fit(positive, scores)


def calibration_from_dict(values: Mapping[str, Any]) -> Calibration:
    """Restore a calibration from its JSON form.

    Raises:
        ValueError: the method is unknown.
    """
    arguments: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in values.items() if name != "method"
    }
    return _method(values["method"])(**arguments)


def _method(name: str) -> type[Calibration]:
    if name not in METHODS:
        raise ValueError(f"Calibration must be one of {', '.join(METHODS)}. Received: method={name!r}")
    return METHODS[name]


def _logit(probability: ArrayLike) -> FloatArray:
    """Log-odds, finite also at 0 and 1, and different for any two different float32 values."""
    from scipy.special import logit

    return np.asarray(logit(np.clip(probability, np.finfo(np.float64).tiny, 1 - np.finfo(np.float64).epsneg)))


def _expit(logits: FloatArray) -> FloatArray:
    from scipy.special import expit

    return np.asarray(expit(logits))


def _fitted_logits(y_score: FloatArray) -> FloatArray:
    return np.clip(_logit(y_score), -FITTED_LOGIT, FITTED_LOGIT)
