import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
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

from cxr_pipeline import intervals
from cxr_pipeline.intervals import WeightedMetrics, bootstrap_intervals, measure
from cxr_pipeline.metrics import METRICS, binary_metrics, equal_mass_bins

BOOTSTRAP = {"replicates": 400, "confidence": 0.95, "seed": 3}
SCORES = {"auc": roc_auc_score, "average_precision": average_precision_score, "brier": brier_score_loss}
DECISIONS = {
    "accuracy": accuracy_score,
    "balanced_accuracy": balanced_accuracy_score,
    "sensitivity": recall_score,
    "specificity": lambda *labels, **options: recall_score(*labels, pos_label=0, **options),
    "precision": lambda *labels, **options: precision_score(*labels, zero_division=np.nan, **options),
    "f1": f1_score,
}


def draw_films(n_films, *, seed=0, shift=1.5, decimals=16):
    rng = np.random.default_rng(seed)
    y_true = (rng.random(n_films) < 0.4).astype(float)
    return y_true, np.round(1 / (1 + np.exp(0.6 - shift * y_true - rng.normal(size=n_films))), decimals)


def by_scikit_learn(y_true, probability, threshold, weights):
    """Each metric with ``sample_weight``; ``ece`` from its definition."""
    bins = equal_mass_bins(probability)
    gaps = [(weights * (y_true - probability))[bins == number].sum() for number in range(10)]
    decision = (probability >= threshold).astype(float)
    return {
        **{name: score(y_true, probability, sample_weight=weights) for name, score in SCORES.items()},
        **{name: score(y_true, decision, sample_weight=weights) for name, score in DECISIONS.items()},
        "ece": np.abs(gaps).sum() / weights.sum(),
    }


@st.composite
def weighted_films(draw):
    """Tied films of both classes, and weights under which both classes are left."""
    n_films = draw(st.integers(2, 40))
    column = lambda values: np.array(draw(st.lists(values, min_size=n_films, max_size=n_films)), dtype=float)  # noqa: E731
    y_true, weights = column(st.sampled_from([0, 1])), column(st.integers(0, 4))
    y_true[:2], weights[:2] = (0, 1), np.maximum(weights[:2], 1)
    return y_true, column(st.integers(0, 12)) / 12, weights


@given(weighted_films(), st.sampled_from([0.0, 0.25, 0.5, 0.51, 1.0]))
def test_weighted_metrics_are_those_of_scikit_learn(films, threshold):
    y_true, probability, weights = films
    order = np.argsort(-probability, kind="stable")

    values = WeightedMetrics(y_true[order] == 1, probability[order], threshold)(weights[order][None])

    expected = by_scikit_learn(y_true, probability, threshold, weights)
    assert {name: values[name][0] for name in METRICS} == pytest.approx(expected, nan_ok=True, abs=1e-12)


@given(weighted_films())
def test_unit_weights_give_the_metrics_of_the_sample(films):
    y_true, probability, _ = films
    order = np.argsort(-probability, kind="stable")

    values = WeightedMetrics(y_true[order] == 1, probability[order], 0.5)(np.ones((1, len(order))))

    expected = binary_metrics(y_true, probability, 0.5)
    assert {name: values[name][0] for name in METRICS} == pytest.approx(expected, nan_ok=True, abs=1e-12)


def test_intervals_are_those_of_a_loop_over_resampled_patients():
    y_true, probability = draw_films(40, decimals=1)
    rng = np.random.default_rng(1)
    groups = np.array([f"p{number:02}" for number in rng.integers(0, 12, size=40)])
    y_true[~np.isin(groups, ("p03", "p05"))] = 0
    ids = np.unique(groups)

    drawn = np.random.default_rng(3).integers(len(ids), size=(400, len(ids)))
    samples = [np.concatenate([np.flatnonzero(groups == ids[number]) for number in row]) for row in drawn]
    both = [films for films in samples if 0 < y_true[films].mean() < 1]
    assert 200 < len(both) < 380
    rows = [binary_metrics(y_true[films], probability[films], 0.6) for films in both]

    found = bootstrap_intervals(y_true, probability, 0.6, groups, **BOOTSTRAP)
    for name in METRICS[:-1]:
        expected = np.nanquantile([row[name] for row in rows], (0.025, 0.975))
        assert found[name] == pytest.approx(tuple(expected), abs=1e-12), name


def test_auc_interval_is_as_wide_as_delong_says():
    y_true, probability = draw_films(2000)
    wins = (probability[y_true == 1][:, None] > probability[y_true == 0]).astype(float)
    variance = wins.mean(1).var(ddof=1) / wins.shape[0] + wins.mean(0).var(ddof=1) / wins.shape[1]

    low, high = bootstrap_intervals(y_true, probability, 0.5, None, replicates=1500, confidence=0.9, seed=0)["auc"]

    assert high - low == pytest.approx(2 * 1.645 * np.sqrt(variance), rel=0.1)


def test_copies_of_a_film_add_nothing_when_patients_are_drawn():
    y_true, probability = draw_films(300)
    copied = np.repeat(y_true, 4), np.repeat(probability, 4)
    width = lambda found: found["auc"][1] - found["auc"][0]  # noqa: E731

    single = width(bootstrap_intervals(y_true, probability, 0.5, None, **BOOTSTRAP))
    patients = width(bootstrap_intervals(*copied, 0.5, np.repeat(np.arange(300), 4), **BOOTSTRAP))
    films = width(bootstrap_intervals(*copied, 0.5, None, **BOOTSTRAP))

    assert patients == pytest.approx(single, rel=0.15)
    assert films == pytest.approx(single / 2, rel=0.15)


def test_distinct_and_missing_patients_are_films():
    films = draw_films(50)
    by_film = bootstrap_intervals(*films, 0.5, None, **BOOTSTRAP)

    assert bootstrap_intervals(*films, 0.5, [f"p{number}" for number in range(50)], **BOOTSTRAP) == by_film
    assert bootstrap_intervals(*films, 0.5, pd.array([None] * 50, dtype="string"), **BOOTSTRAP) == by_film


def test_film_without_patient_is_a_patient_of_its_own():
    films = draw_films(60)
    named = np.array([f"p{number:02}" for number in [0] * 20 + [1] * 20 + list(range(2, 22))], dtype=object)
    missing = named.copy()
    missing[40:] = None

    assert bootstrap_intervals(*films, 0.5, missing, **BOOTSTRAP) != bootstrap_intervals(*films, 0.5, None, **BOOTSTRAP)
    found, expected = (bootstrap_intervals(*films, 0.5, ids, **BOOTSTRAP)["auc"] for ids in (missing, named))
    assert found == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("grouped", [False, True])
def test_rows_in_another_order_and_other_chunks_change_nothing(monkeypatch, grouped):
    y_true, probability = draw_films(90)
    groups = np.array([f"p{number // 3}" if number % 5 else None for number in range(90)]) if grouped else None
    expected = bootstrap_intervals(y_true, probability, 0.5, groups, **BOOTSTRAP)
    order = np.random.default_rng(5).permutation(90)
    monkeypatch.setattr(intervals, "CHUNK", 90 * 7)

    found = bootstrap_intervals(
        y_true[order], probability[order], 0.5, groups if groups is None else groups[order], **BOOTSTRAP
    )

    for name in METRICS:
        assert found[name] == pytest.approx(expected[name], abs=1e-12)


def test_the_seed_decides():
    films = draw_films(80)

    first, again = (bootstrap_intervals(*films, 0.5, None, **BOOTSTRAP) for _ in range(2))

    assert first == again
    assert first != bootstrap_intervals(*films, 0.5, None, **{**BOOTSTRAP, "seed": 4})


@pytest.mark.parametrize("seed", range(8))
def test_intervals_hold_the_value_and_grow_with_confidence(seed):
    films = draw_films(250, seed=seed)
    values = binary_metrics(*films, 0.5)

    wide = bootstrap_intervals(*films, 0.5, None, **BOOTSTRAP)
    narrow = bootstrap_intervals(*films, 0.5, None, **{**BOOTSTRAP, "confidence": 0.5})

    for name in METRICS:
        assert 0 <= wide[name][0] < values[name] < wide[name][1] <= 1, name
        assert wide[name][0] <= narrow[name][0] < narrow[name][1] <= wide[name][1], name


def test_calibration_error_of_calibrated_films_reaches_down():
    rng = np.random.default_rng(0)
    probability = rng.random(500)
    y_true = (rng.random(500) < probability).astype(float)

    low, high = bootstrap_intervals(y_true, probability, 0.5, None, **BOOTSTRAP)["ece"]

    assert low < binary_metrics(y_true, probability, 0.5)["ece"] / 2 < high


def test_unknown_labels_leave_with_their_patients():
    y_true, probability = draw_films(60)
    groups = np.array([f"p{number // 2}" for number in range(60)])
    expected = bootstrap_intervals(y_true[:40], probability[:40], 0.5, groups[:40], **BOOTSTRAP)
    y_true[40:] = np.nan

    assert bootstrap_intervals(y_true, probability, 0.5, groups, **BOOTSTRAP) == expected


def test_one_class_keeps_what_is_defined():
    found = bootstrap_intervals(np.ones(30), np.linspace(0.2, 0.9, 30), 0.5, None, **BOOTSTRAP)

    undefined = {"auc", "average_precision", "balanced_accuracy", "specificity"}
    assert {name for name, (low, high) in found.items() if np.isnan([low, high]).all()} == undefined
    assert found["sensitivity"][0] < 17 / 30 < found["sensitivity"][1]


@pytest.mark.parametrize("y_true", [[], [0, 1, 1]])
def test_one_patient_has_no_interval(y_true):
    found = bootstrap_intervals(y_true, np.linspace(0.1, 0.9, len(y_true)), 0.5, ["a"] * len(y_true), **BOOTSTRAP)

    assert np.isnan(list(found.values())).all()


def test_measure_is_valid_json():
    measured = measure([0, 0, 1, 1], [0.1, 0.2, 0.15, 0.3], 0.5, None, **BOOTSTRAP)

    assert json.loads(json.dumps(measured, allow_nan=False)) == measured
    assert list(measured) == list(METRICS)
    assert measured["auc"]["value"] == 0.75
    assert measured["precision"] == {"value": None, "low": None, "high": None}
    low, high = bootstrap_intervals([0, 0, 1, 1], [0.1, 0.2, 0.15, 0.3], 0.5, None, **BOOTSTRAP)["brier"]
    assert (measured["brier"]["low"], measured["brier"]["high"]) == (low, high)
