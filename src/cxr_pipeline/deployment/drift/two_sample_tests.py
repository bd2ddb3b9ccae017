"""Two-sample tests that return a p-value and an effect size, for images of different patients.

Each test takes the name of what is compared, then n values of the reference and m new ones, all finite, as float64. It
returns JSON types: ``name``; ``test``, the name of the test; ``effect_name`` and ``effect``, the measure of the effect
size and its value, 0 or more; the uncorrected ``p_value``; ``n_reference`` and ``n_new``; the typical values
``reference`` and ``new``, medians if distributions are compared, else means; and ``histogram``, with ``edges`` and the
``reference`` and ``new`` shares between them, None if means are compared.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

Floats = NDArray[np.float64]

PSI_BINS = 10
HISTOGRAM_BINS = 24
# scipy's exact p-values fail, with a warning, for many sample sizes; from 30 images, the asymptotic ones suffice.
_kolmogorov_smirnov = partial(stats.ks_2samp, method="asymp")


def compare_values(name: str, reference: Floats, new: Floats) -> dict[str, Any]:
    """Compare values [n] and [m] with the Kolmogorov-Smirnov test.

    The effect is the largest distance between the two distribution functions, 0 to 1.

    Example:
        >>> compare_values("noise", np.arange(40.0), np.arange(20.0, 60.0))["effect"]
        0.5
    """
    distance, p_value = _kolmogorov_smirnov(reference, new)
    names = (name, "Kolmogorov-Smirnov", "KS distance")
    return _result(*names, distance, p_value, reference, new) | _distributions(reference, new)


def compare_scores(name: str, reference: Floats, new: Floats) -> dict[str, Any]:
    """Compare probabilities [n] and [m] with the Kolmogorov-Smirnov test.

    The effect is the population stability index. In small samples it is above 0 without any drift, by about
    (bins - 1) (1 / n + 1 / m), which is subtracted.

    References:
        Yurdakul and Naranjo, "Statistical properties of the population stability index", J. Risk Model Validation
        14, 2020.
    """
    edges = np.unique(np.quantile(reference, np.linspace(0, 1, PSI_BINS + 1)[1:-1]))
    # Half an image per bin keeps the logarithm finite where a bin is empty.
    counts = [np.bincount(np.searchsorted(edges, side), minlength=len(edges) + 1) + 0.5 for side in (reference, new)]
    expected, actual = (count / count.sum() for count in counts)
    bias = len(edges) * (1 / len(reference) + 1 / len(new))
    index = max(0.0, float(np.sum((actual - expected) * np.log(actual / expected))) - bias)
    names = (name, "Kolmogorov-Smirnov", "PSI")
    p_value = _kolmogorov_smirnov(reference, new).pvalue
    return _result(*names, index, p_value, reference, new) | _distributions(reference, new)


def compare_features(name: str, reference: Floats, new: Floats, *, seed: int) -> dict[str, Any]:
    """Compare features [n, c] and [m, c], of about variance 1, with a classifier two-sample test.

    A logistic regression is trained on one half of the images to distinguish new from reference images, and evaluated
    on the other half; then the halves are swapped. Each half gives a one-sided Mann-Whitney p-value, valid because the
    classifier was not trained on it; the result is twice the smaller one (Bonferroni). Squared features let the
    classifier detect a change of spread, not only a shift. The effect is the mean AUC: 0.5 if the two samples cannot be
    distinguished, 1 if they are completely separated.

    References:
        Lopez-Paz and Oquab, "Revisiting classifier two-sample tests", ICLR 2017.
        Rabanser, Günnemann and Lipton, "Failing loudly", NeurIPS 2019.
    """
    inputs = np.clip(np.vstack([reference, new]), -10, 10)
    inputs = np.hstack([inputs, inputs**2])
    is_new = np.repeat([False, True], [len(reference), len(new)])
    regression = LogisticRegression(C=0.1, class_weight="balanced", solver="newton-cholesky")
    classifier = make_pipeline(StandardScaler(), regression)
    scores, aucs, p_values = np.empty(len(inputs)), [], []
    for train, test in StratifiedKFold(2, shuffle=True, random_state=seed).split(inputs, is_new):
        scores[test] = classifier.fit(inputs[train], is_new[train]).decision_function(inputs[test])
        positive, negative = scores[test][is_new[test]], scores[test][~is_new[test]]
        result = stats.mannwhitneyu(positive, negative, alternative="greater")
        aucs.append(result.statistic / (len(positive) * len(negative)))
        p_values.append(result.pvalue)
    names, sides = (name, "domain classifier", "AUC"), (scores[~is_new], scores[is_new])
    return _result(*names, np.mean(aucs), min(1.0, 2 * min(p_values)), *sides) | _distributions(*sides)


def compare_prevalence(name: str, reference: Floats, new: Floats) -> dict[str, Any]:
    """Compare the shares of positive labels, [n] and [m], with Fisher's exact test.

    The effect is Cohen's h: 0.2 is small, 0.5 medium, 0.8 large.

    References:
        Cohen, "Statistical power analysis for the behavioral sciences", 1988, chapter 6.
    """
    table = [[int(labels.sum()), int((1 - labels).sum())] for labels in (reference, new)]
    before, after = (2 * np.arcsin(np.sqrt(labels.mean())) for labels in (reference, new))
    p_value = min(1.0, stats.fisher_exact(table).pvalue)
    return _result(name, "Fisher's exact test", "Cohen's h", abs(after - before), p_value, reference, new)


def compare_calibration_in_the_large(name: str, reference: Floats, new: Floats) -> dict[str, Any]:
    """Compare the calibration in the large of labels and probabilities, [n, 2] and [m, 2], with Welch's test.

    This is the observed minus the expected share of positives, 0 for calibrated probabilities. It is compared with its
    value on validation images, so that a model that was never calibrated does not count as drift.

    References:
        Van Calster et al., "Calibration: the Achilles heel of predictive analytics", BMC Medicine 17, 2019.
    """
    return _compare_means(f"{name}, in the large", *(side[:, 0] - side[:, 1] for side in (reference, new)))


def compare_brier_excess(name: str, reference: Floats, new: Floats) -> dict[str, Any]:
    """Compare the numerator of Spiegelhalter's statistic in the same way as `compare_calibration_in_the_large`.

    For labels y and probabilities p, this is the mean of (y - p)(1 - 2 p): the excess of the Brier score over its
    expected value, which increases if high and low probabilities are wrong, regardless of the shares.

    References:
        Spiegelhalter, "Probabilistic prediction in patient management and clinical trials", Stat. Med. 5, 1986.
    """
    excess = ((side[:, 0] - side[:, 1]) * (1 - 2 * side[:, 1]) for side in (reference, new))
    return _compare_means(f"{name}, Spiegelhalter", *excess)


def _compare_means(name: str, reference: Floats, new: Floats) -> dict[str, Any]:
    difference = new.mean() - reference.mean()
    if np.ptp(reference) == 0 == np.ptp(new):  # Welch's statistic is undefined without any variance
        p_value = 1.0 if difference == 0 else 0.0
    else:
        p_value = stats.ttest_ind(new, reference, equal_var=False).pvalue
    return _result(name, "Welch's test", "difference", abs(difference), p_value, reference, new)


def _result(
    name: str, test: str, effect_name: str, effect: float, p_value: float, reference: Floats, new: Floats
) -> dict[str, Any]:
    return {
        "name": name,
        "test": test,
        "effect_name": effect_name,
        "effect": float(effect),
        "p_value": float(p_value),
        "n_reference": len(reference),
        "n_new": len(new),
        "reference": float(reference.mean()),
        "new": float(new.mean()),
        "histogram": None,
    }


def _distributions(reference: Floats, new: Floats) -> dict[str, Any]:
    """Return the medians, and the shares in bins of equal width; outliers count in the first and last bin."""
    ends = np.quantile(reference, (0.002, 0.998)), np.quantile(new, (0.002, 0.998))
    edges = np.histogram_bin_edges(np.concatenate(ends), HISTOGRAM_BINS)
    shares = [np.histogram(np.clip(side, edges[0], edges[-1]), edges)[0] / len(side) for side in (reference, new)]
    histogram = {"edges": edges.tolist(), "reference": shares[0].tolist(), "new": shares[1].tolist()}
    return {"reference": float(np.median(reference)), "new": float(np.median(new)), "histogram": histogram}
