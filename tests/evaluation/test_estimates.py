import runpy
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit
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

from cxr_pipeline.evaluation.estimates import FEWEST_PATIENTS, estimate_metrics
from cxr_pipeline.evaluation.intervals import Patients
from cxr_pipeline.evaluation.metrics import SortedImages

RANKED = {"auc": roc_auc_score, "average_precision": average_precision_score, "brier": brier_score_loss}
DECIDED = {
    "accuracy": accuracy_score,
    "sensitivity": recall_score,
    "precision": precision_score,
    "f1": f1_score,
    "balanced_accuracy": balanced_accuracy_score,
}


def draw(n_images=80, *, seed=0):
    rng = np.random.default_rng(seed)
    positive = rng.random(n_images) < 0.4
    probability = expit(1.5 * positive - 0.6 + rng.normal(size=n_images)).round(1)
    order = np.argsort(-probability, kind="stable")
    return positive[order], probability[order]


def of_images(positive, probability, codes=None, confidence=0.95):
    patients = Patients(np.arange(len(positive)) if codes is None else codes)
    images = SortedImages(positive.astype(float), probability, probability >= 0.5)
    return estimate_metrics(images, patients[images.images], confidence)


def test_values_and_influences_are_those_of_scikit_learn():
    positive, probability = draw()
    found = of_images(positive, probability)
    for name, score in (RANKED | DECIDED).items():
        given = probability if name in RANKED else probability >= 0.5
        value = score(positive, given)
        assert found[name].value == pytest.approx(value), name
        if name == "f1":  # its influence is that of the Jaccard index
            continue
        for image in range(0, len(positive), 9):
            weights = np.ones(len(positive))
            weights[image] += 1e-6
            change = (score(positive, given, sample_weight=weights) - value) / 1e-6
            assert found[name].influence[image] == pytest.approx(change, abs=1e-7), name


def test_images_of_the_same_patients_are_not_independent():
    positive, probability = draw(300)
    codes = np.where(positive, 0, 30) + np.arange(300) % 30
    alone, together = of_images(positive, probability), of_images(positive, probability, codes)
    twice = of_images(*(np.repeat(part, 2) for part in (positive, probability)), np.repeat(codes, 2))
    for name in alone:
        low, high = together[name].low, together[name].high
        assert high - low > alone[name].high - alone[name].low, name
        assert (twice[name].low, twice[name].high) == pytest.approx((low, high), abs=1e-9), name


@pytest.mark.parametrize("n_patients", [1, FEWEST_PATIENTS - 1, FEWEST_PATIENTS])
def test_ranking_needs_some_patients_of_either_class(n_patients):
    positive, probability = draw()
    expected = n_patients if n_patients < FEWEST_PATIENTS else None
    for side in (positive, ~positive):
        codes = np.where(side, np.arange(80) % n_patients, n_patients + np.arange(80))
        found = of_images(positive, probability, codes)
        assert found["auc"].too_few == found["average_precision"].too_few == expected
        assert found["sensitivity"].too_few is None


@pytest.mark.slow
def test_intervals_contain_the_true_value_in_about_95_of_100_samples():
    simulation = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "coverage.py"))
    rows = [*simulation["cover_shares"](1000), *simulation["cover_metrics"](250)]
    assert len(rows) == 4 * 3 * 4 * 8
    for metric, n_patients, true, correlation, coverage, width in rows:
        # Three standard errors of the simulation below 93 %.
        lowest = 0.93 - 3 * np.sqrt(0.93 * 0.07 / (1000 if metric == "share" else 250))
        assert coverage >= lowest, (metric, n_patients, true, correlation)
        assert 0 < width < 0.8
        if metric == "share" and n_patients == 300:
            assert coverage <= 0.995
