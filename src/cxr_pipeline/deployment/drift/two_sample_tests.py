"""The tests: each gives a p-value and how large the difference is, for images of different patients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

BINS = 10
DRAWN_BINS = 24


@dataclass(frozen=True)
class Comparison:
    """One test of new images against the reference.

    Args:
        name: what is compared.
        test: how.
        effect: how large the difference is, 0 or more; ``effect_name`` says in which measure.
        p_value: of the test, not corrected.
        n_reference, n_new: images in it.
        reference, new: a value that stands for either side, such as the median.
        histogram: ``edges``, and the ``reference`` and ``new`` shares between them, for the page; None for none.
    """

    name: str
    test: str
    effect_name: str
    effect: float
    p_value: float
    n_reference: int
    n_new: int
    reference: float
    new: float
    histogram: dict[str, list[float]] | None = None


def compare_values(name: str, reference: Floats, new: Floats) -> Comparison:
    """Compare two samples by the largest distance between their distribution functions (Kolmogorov-Smirnov).

    Args:
        name: what the values are.
        reference: finite values [n].
        new: finite values [m].

    Returns:
        The effect is that distance, 0 to 1.
    """
    distance, p_value = _kolmogorov_smirnov(reference, new)
    return _of_values(name, "KS distance", distance, p_value, reference, new)


def compare_scores(name: str, reference: Floats, new: Floats) -> Comparison:
    """Compare probabilities; the effect is the population stability index.

    The index of few images is above 0 without any drift, by about (bins - 1) (1 / n + 1 / m); that is taken off.

    Args:
        name: the output.
        reference: probabilities [n].
        new: probabilities [m].

    References:
        Yurdakul and Naranjo, "Statistical properties of the population stability index", J. Risk Model Validation
        14, 2020.
    """
    _, p_value = _kolmogorov_smirnov(reference, new)
    inner = np.unique(np.quantile(reference, np.linspace(0, 1, BINS + 1)[1:-1]))
    shares = []
    for values in (reference, new):
        counts = np.bincount(np.searchsorted(inner, values), minlength=len(inner) + 1) + 0.5
        shares.append(counts / counts.sum())
    by_chance = len(inner) * (1 / len(reference) + 1 / len(new))
    index = float(np.sum((shares[1] - shares[0]) * np.log(shares[1] / shares[0])))
    return _of_values(name, "PSI", max(0.0, index - by_chance), p_value, reference, new)


def compare_features(name: str, reference: Floats, new: Floats, *, seed: int) -> Comparison:
    """Try to tell new images from the reference by their features.

    A classifier is fitted to one half of the images and judged on the other, then the other way round. Its AUC is the
    effect: 0.5 where nothing tells them apart, 1 where all is told. Each half gives a p-value (Mann-Whitney,
    one-sided), valid since the classifier has not seen the half; twice the smaller of both counts. Squares are given
    to the classifier too, so that a wider spread is seen, not only a shift.

    Args:
        name: of the comparison.
        reference: features [n, c], of about variance 1.
        new: features [m, c].
        seed: of the halves.

    References:
        Lopez-Paz and Oquab, "Revisiting classifier two-sample tests", ICLR 2017.
        Rabanser, Günnemann and Lipton, "Failing loudly", NeurIPS 2019.
    """
    from scipy.stats import mannwhitneyu
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    both = np.clip(np.vstack([reference, new]), -10, 10)
    both = np.hstack([both, both**2])
    is_new = np.repeat([0, 1], [len(reference), len(new)])
    scores, areas, p_values = np.empty(len(both)), [], []
    for fitted, judged in StratifiedKFold(2, shuffle=True, random_state=seed).split(both, is_new):
        classifier = LogisticRegression(C=0.1, class_weight="balanced", solver="newton-cholesky")
        model = make_pipeline(StandardScaler(), classifier).fit(both[fitted], is_new[fitted])
        scores[judged] = model.decision_function(both[judged])
        theirs, ours = (scores[judged][is_new[judged] == side] for side in (1, 0))
        found = mannwhitneyu(theirs, ours, alternative="greater")
        areas.append(found.statistic / (len(theirs) * len(ours)))
        p_values.append(found.pvalue)
    ours, theirs = scores[is_new == 0], scores[is_new == 1]
    area, p_value = float(np.mean(areas)), min(1.0, 2 * float(min(p_values)))
    return _of_values(name, "AUC", area, p_value, ours, theirs, test="domain classifier")


def compare_shares(name: str, reference: tuple[int, int], new: tuple[int, int]) -> Comparison:
    """Compare two proportions by Fisher's exact test.

    Args:
        name: the label.
        reference: positive images, and images with a known label.
        new: the same of new images.

    Returns:
        The effect is Cohen's h: 0.2 is called small, 0.5 medium, 0.8 large.

    References:
        Cohen, "Statistical power analysis for the behavioral sciences", 1988, chapter 6.
    """
    from scipy.stats import fisher_exact

    table = [[positive, known - positive] for positive, known in (reference, new)]
    shares = [positive / known for positive, known in (reference, new)]
    angles = [2 * np.arcsin(np.sqrt(share)) for share in shares]
    return Comparison(
        name=name,
        test="Fisher's exact test",
        effect_name="Cohen's h",
        effect=float(abs(angles[1] - angles[0])),
        p_value=min(1.0, float(fisher_exact(table).pvalue)),
        n_reference=reference[1],
        n_new=new[1],
        reference=shares[0],
        new=shares[1],
    )


def compare_calibration(
    name: str, reference: tuple[Floats, Floats], new: tuple[Floats, Floats]
) -> tuple[Comparison, Comparison]:
    """Compare how far the probabilities are from what the images turned out to be.

    First in the large: observed less expected share of positives. Then the numerator of Spiegelhalter's statistic,
    the mean of (y - p)(1 - 2 p): by how much the Brier score is above what the probabilities promise, which grows
    where high probabilities are wrong and low ones too, whatever the shares. Both are 0 where the probabilities are
    honest, and are compared with their values on validation images by Welch's test: a model that never was calibrated
    is not called drift.

    Args:
        name: the output.
        reference: labels [n] and probabilities [n] of images whose label is known.
        new: the same of new images.

    References:
        Spiegelhalter, "Probabilistic prediction in patient management and clinical trials", Stat. Med. 5, 1986.
        Van Calster et al., "Calibration: the Achilles heel of predictive analytics", BMC Medicine 17, 2019.
    """
    sides = [(true - probability, probability) for true, probability in (reference, new)]
    large = [residual for residual, _ in sides]
    spread = [residual * (1 - 2 * probability) for residual, probability in sides]
    return _of_means(f"{name}, in the large", *large), _of_means(f"{name}, of single images", *spread)


def _kolmogorov_smirnov(reference: Floats, new: Floats) -> tuple[float, float]:
    from scipy.stats import ks_2samp

    # Its exact p-values fail, with a warning, for many numbers of images; from 30 images on these are as good.
    found = ks_2samp(reference, new, method="asymp")
    return float(found.statistic), float(np.clip(found.pvalue, 0, 1))


def _of_values(
    name: str,
    effect_name: str,
    effect: float,
    p_value: float,
    reference: Floats,
    new: Floats,
    *,
    test: str = "Kolmogorov-Smirnov",
) -> Comparison:
    return Comparison(
        name=name,
        test=test,
        effect_name=effect_name,
        effect=effect,
        p_value=p_value,
        n_reference=len(reference),
        n_new=len(new),
        reference=float(np.median(reference)),
        new=float(np.median(new)),
        histogram=_histogram(reference, new),
    )


def _of_means(name: str, reference: Floats, new: Floats) -> Comparison:
    from scipy.stats import ttest_ind

    difference = float(new.mean() - reference.mean())
    if np.ptp(reference) == 0 == np.ptp(new):
        p_value = 1.0 if difference == 0 else 0.0
    else:
        p_value = float(ttest_ind(new, reference, equal_var=False).pvalue)
    return Comparison(
        name=name,
        test="Welch's test",
        effect_name="difference",
        effect=abs(difference),
        p_value=p_value,
        n_reference=len(reference),
        n_new=len(new),
        reference=float(reference.mean()),
        new=float(new.mean()),
    )


def _histogram(reference: Floats, new: Floats) -> dict[str, list[float]]:
    """Shares of both samples in bins of equal width; the few values beyond either end are in the last bins."""
    both = np.concatenate([np.quantile(values, (0.002, 0.998)) for values in (reference, new)])
    low, high = float(both.min()), float(both.max())
    edges = np.linspace(low, high, DRAWN_BINS + 1) if high > low else np.linspace(low - 0.5, low + 0.5, DRAWN_BINS + 1)
    shares = [np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0] / len(values) for values in (reference, new)]
    return {"edges": edges.tolist(), "reference": shares[0].tolist(), "new": shares[1].tolist()}
