"""How often the intervals of ``cxr_pipeline.evaluation`` contain the true value, by simulation.

Run ``python benchmarks/coverage.py``. Patients have one image each, or a geometric number of images (mean 3) whose
results are equal (0), correlated (0.3) or almost the same (0.9) within a patient.
"""

import argparse
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from cxr_pipeline.evaluation.intervals import Patients, estimate_metrics, estimate_share
from cxr_pipeline.evaluation.metrics import SortedImages

CONFIDENCE = 0.95
PATIENTS = (5, 10, 30, 300)
TRUE_VALUES = (0.5, 0.9, 0.99)
CORRELATIONS = (None, 0.0, 0.3, 0.9)
THRESHOLD = 0.5
Row = tuple[str, int, float, "float | None", float, float]


def draw_sizes(rng: np.random.Generator, n_patients: int, correlation: float | None) -> NDArray[np.intp]:
    """Draw the number of images of each patient; one each where there is no correlation."""
    return np.ones(n_patients, np.intp) if correlation is None else rng.geometric(1 / 3, n_patients)


def cover_shares(replicates: int, seed: int = 0) -> Iterator[Row]:
    """Yield metric, patients, true value, correlation, coverage and mean width of the interval of a share."""
    rng = np.random.default_rng(seed)
    for n_patients in PATIENTS:
        for true in TRUE_VALUES:
            for correlation in CORRELATIONS:
                found = np.empty((replicates, 2))
                for replicate in range(replicates):
                    members = draw_sizes(rng, n_patients, correlation)
                    spread = 1 / correlation - 1 if correlation else None
                    own = rng.beta(true * spread, (1 - true) * spread, n_patients) if spread else true
                    gained = rng.binomial(members, own).astype(float)
                    interval = estimate_share(gained, members.astype(float), CONFIDENCE)
                    assert interval is not None
                    found[replicate] = interval.low, interval.high
                low, high = found.T
                covered = float(np.mean((low <= true) & (true <= high)))
                yield "share", n_patients, true, correlation, covered, float(np.mean(high - low))


def draw_images(
    rng: np.random.Generator, n_patients: int, auc: float, correlation: float | None
) -> tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.intp]]:
    """Draw labels and probabilities, by decreasing probability, with ``n_patients`` of each class; and patients."""
    sizes = draw_sizes(rng, 2 * n_patients, correlation)
    codes = np.repeat(np.arange(2 * n_patients), sizes)
    shared = correlation or 0.0
    noise = np.sqrt(shared) * rng.normal(size=2 * n_patients)[codes] + np.sqrt(1 - shared) * rng.normal(size=len(codes))
    positive = codes < n_patients
    distance = np.sqrt(2) * norm.ppf(auc)
    probability = norm.cdf(noise + distance * (positive - 0.5))
    order = np.argsort(-probability)
    return positive[order], probability[order], codes[order]


def true_metrics(auc: float) -> dict[str, float]:
    """Return the metrics of infinitely many images, half of them positive, at the threshold of `cover_metrics`."""
    distance = np.sqrt(2) * norm.ppf(auc)
    grid = np.linspace(-9, 9, 20_001)
    sensitivity, false_positives = norm.sf(grid - distance / 2), norm.sf(grid + distance / 2)
    precision = sensitivity / np.maximum(sensitivity + false_positives, 1e-300)
    rate = float(norm.cdf(distance / 2))
    square = (1 - norm.cdf(grid)) ** 2
    return {
        "auc": auc,
        "average_precision": float(-np.trapezoid(precision, sensitivity)),
        "accuracy": rate,
        "balanced_accuracy": rate,
        "precision": rate,
        "f1": rate,
        "brier": float(np.trapezoid(square * norm.pdf(grid - distance / 2), grid)),
    }


def cover_metrics(replicates: int, seed: int = 0) -> Iterator[Row]:
    """Yield the rows of `cover_shares` for the metrics of an output with as many patients of each class."""
    rng = np.random.default_rng(seed)
    for n_patients in PATIENTS:
        for auc in TRUE_VALUES:
            true = true_metrics(auc)
            for correlation in CORRELATIONS:
                found = np.empty((len(true), replicates, 2))
                for replicate in range(replicates):
                    positive, probability, codes = draw_images(rng, n_patients, auc, correlation)
                    patients = Patients(codes, 2 * n_patients)
                    images = SortedImages(positive.astype(float), probability, probability >= THRESHOLD)
                    metrics = estimate_metrics(images, patients[images.images], CONFIDENCE)
                    for place, name in enumerate(true):
                        estimate = metrics[name]
                        found[place, replicate] = (0, 1) if estimate is None else (estimate.low, estimate.high)
                for (name, value), (low, high) in zip(true.items(), found.transpose(0, 2, 1), strict=True):
                    covered = float(np.mean((low <= value) & (value <= high)))
                    yield name, n_patients, auc, correlation, covered, float(np.mean(high - low))


def main() -> None:
    """Print a row for each setting."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replicates", type=int, default=2_000)
    arguments = parser.parse_args()
    print("metric, patients, true value or AUC, correlation, coverage, width")
    for rows in (cover_shares(arguments.replicates), cover_metrics(arguments.replicates // 4)):
        for *setting, coverage, width in rows:
            print(*setting, f"{coverage:.3f}", f"{width:.3f}", sep=", ")


if __name__ == "__main__":
    main()
