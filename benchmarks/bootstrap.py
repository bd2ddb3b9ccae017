"""The intervals of ``cxr_pipeline.evaluation`` against a bootstrap of each metric as a plain loop over scikit-learn.

Run ``python benchmarks/bootstrap.py``. The loop runs fewer replicates and is scaled up.
"""

import argparse
import resource
import sys
import time
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    brier_score_loss,
    f1_score,
    precision_score,
    recall_score,
    roc_auc_score,
)

from cxr_pipeline.evaluation.evaluate import evaluate
from cxr_pipeline.evaluation.metrics import METRICS, SortedImages

THRESHOLD = 0.5


def expected_calibration_error(y_true: NDArray[np.int64], probability: NDArray[np.float64]) -> float:
    """The calibration error, which scikit-learn does not have."""
    images = SortedImages(y_true.astype(float), probability, probability >= THRESHOLD)
    return float(images.calibration_error(np.ones((1, len(y_true))))[0])


SCORES = (
    roc_auc_score,
    average_precision_score,
    brier_score_loss,
    expected_calibration_error,
)
DECISIONS = (
    accuracy_score,
    balanced_accuracy_score,
    recall_score,
    partial(recall_score, pos_label=0),
    partial(precision_score, zero_division=np.nan),
    f1_score,
)


def draw_images(n_images: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """Labels, probabilities and patients, each [n_images]; a patient has three images."""
    rng = np.random.default_rng(seed)
    y_true = (rng.random(n_images) < 0.3).astype(np.int64)
    probability = 1 / (1 + np.exp(1 - 1.5 * y_true - rng.normal(size=n_images)))
    return y_true, probability, np.arange(n_images) // 3


def loop(
    y_true: NDArray[np.int64], probability: NDArray[np.float64], patients: NDArray[np.int64], replicates: int
) -> NDArray[np.float64]:
    """Every metric of every replicate, [replicates, metrics], by resampling and scikit-learn."""
    rng = np.random.default_rng(0)
    images_of = np.split(np.arange(len(patients)), np.flatnonzero(np.diff(patients)) + 1)
    values = []
    for _ in range(replicates):
        images = np.concatenate([images_of[patient] for patient in rng.integers(len(images_of), size=len(images_of))])
        labels, scores = y_true[images], probability[images]
        decisions = scores >= THRESHOLD
        values.append([*(f(labels, scores) for f in SCORES), *(f(labels, decisions) for f in DECISIONS)])
    return np.array(values)


def run(
    y_true: NDArray[np.int64], probability: NDArray[np.float64], patients: NDArray[np.int64], replicates: int
) -> dict[str, float]:
    """The interval of the AUC, or of its mean over outputs, by ``evaluate``; the first two arrays are [n, k]."""
    outputs = tuple(f"output {number}" for number in range(y_true.shape[1]))
    images = {"source": "source", "patient_id": patients.astype(str)}
    for column, output in enumerate(outputs):
        images[f"true_{output}"] = y_true[:, column]
        images[f"probability_{output}"] = probability[:, column]
        images[f"predicted_{output}"] = probability[:, column] >= THRESHOLD
    bootstrap = {"replicates": replicates, "confidence": 0.95, "seed": 0}
    measured = evaluate(pd.DataFrame(images), outputs=outputs, exclusive=False, bootstrap=bootstrap)
    found: dict[str, float] = measured["metrics"]["auc"]
    return found


def main() -> None:
    """Time both and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=25_000)
    parser.add_argument("--replicates", type=int, default=2_000)
    parser.add_argument("--outputs", type=int, default=15)
    parser.add_argument("--loop-replicates", type=int, default=50)
    arguments = parser.parse_args()
    images = draw_images(arguments.images, seed=0)

    start = time.perf_counter()
    values = loop(*images, arguments.loop_replicates)
    loop_seconds = (time.perf_counter() - start) / arguments.loop_replicates * arguments.replicates

    y_true, probability, patients = images
    start = time.perf_counter()
    auc = run(y_true[:, None], probability[:, None], patients, arguments.replicates)
    seconds = time.perf_counter() - start

    start = time.perf_counter()
    labels, scores, _ = zip(*(draw_images(arguments.images, seed) for seed in range(arguments.outputs)), strict=True)
    run(np.column_stack(labels), np.column_stack(scores), patients, arguments.replicates)
    several_seconds = time.perf_counter() - start

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    low, high = np.quantile(values[:, 0], (0.025, 0.975))
    print(f"{arguments.images:,} images of {len(np.unique(patients)):,} patients, {arguments.replicates:,} replicates")
    print(f"{len(METRICS)} metrics in {seconds:.2f} s; AUC {auc['low']:.4f} to {auc['high']:.4f}")
    print(f"the same for {arguments.outputs} outputs and their mean: {several_seconds:.2f} s")
    print(
        f"loop over scikit-learn: {loop_seconds:.1f} s, from {arguments.loop_replicates} replicates; "
        f"AUC {low:.4f} to {high:.4f}"
    )
    print(f"ratio: {loop_seconds / seconds:.0f}; peak memory of the process: {peak:.0f} MiB")


if __name__ == "__main__":
    main()
