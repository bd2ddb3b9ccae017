"""Tests of learning curves: the subsets, the fit of a known law, and curves that predict nothing."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.experiments.learning_curve import (
    HALF_WIDTH,
    PowerLaw,
    analyse,
    fit_power_law,
    images_for_interval,
    nested_subsets,
    sentence,
)

NUMBERS = np.geomspace(20, 640, 8)
LAW = PowerLaw(0.93, 0.8, 0.45)


def curve(auc, *, noise=0.01, draws=5, numbers=NUMBERS, seed=0):
    rng = np.random.default_rng(seed)
    rows = [
        {"draw": draw, "size": size, "n_images": n, "auc": float(auc(n)) + rng.normal(0, noise)}
        for draw in range(draws)
        for size, n in enumerate(numbers)
    ]
    return pd.DataFrame(rows)


def analysed(table):
    return analyse(table, prevalence=0.5, confidence=0.95, seed=1)


@settings(deadline=None)
@given(
    patients=st.lists(st.integers(0, 40), min_size=1, max_size=120),
    sizes=st.integers(2, 9),
    seed=st.integers(0, 9),
)
def test_subsets_grow_by_whole_patients_to_all(patients, sizes, seed):
    groups = pd.Series([f"p{number}" for number in patients])
    labels = pd.DataFrame({"label_ill": [float(number % 3 == 0) for number in patients]})
    subsets = nested_subsets(groups, labels, sizes, seed)
    assert 1 <= len(subsets) <= sizes
    assert subsets[-1].all()
    for smaller, larger in itertools.pairwise(subsets):
        assert not (smaller & ~larger).any()
        assert smaller.sum() < larger.sum()
    for chosen in subsets:
        assert pd.Series(chosen).groupby(groups).nunique().eq(1).all()
    again = nested_subsets(groups, labels, sizes, seed)
    assert all((one == other).all() for one, other in zip(subsets, again, strict=True))


def test_subsets_are_random_and_have_the_share_of_each_class():
    groups = pd.Series([str(number) for number in range(600)])
    labels = pd.DataFrame({"label_ill": np.arange(600) % 5 == 0}, dtype=float)
    subsets = nested_subsets(groups, labels, 8, seed=0)
    assert [int(chosen.sum()) for chosen in subsets] == [19, 31, 50, 83, 136, 223, 366, 600]
    assert [labels["label_ill"][chosen].mean() for chosen in subsets] == pytest.approx([0.2] * 8, abs=0.03)
    assert (subsets[3] != nested_subsets(groups, labels, 8, seed=1)[3]).any()


def test_the_law_is_recovered():
    found = fit_power_law(NUMBERS, LAW(NUMBERS))
    assert (found.a, found.b, found.c) == pytest.approx((LAW.a, LAW.b, LAW.c), rel=1e-3)


def test_predictions_agree_with_the_law_behind_the_measurements():
    """The interval of the draws contains the truth in most of 30 experiments."""
    covered = []
    for seed in range(30):
        found = analysed(curve(LAW, seed=seed))
        assert found["doubts"] == []
        assert [row["n_images"] for row in found["predictions"]] == [1280, 6400]
        for row in found["predictions"]:
            assert row["low"] <= row["auc"] <= row["high"]
            assert row["auc"] == pytest.approx(float(LAW(row["n_images"])), abs=0.05)
            covered.append(row["low"] <= LAW(row["n_images"]) <= row["high"])
    assert np.mean(covered) > 0.7
    assert sentence(found).startswith(f"With 1,280 training images, twice as many, the AUC would be {LAW(1280):.2f}")


def test_sizes_without_an_auc_of_every_draw_are_left_out():
    table = curve(LAW)
    table.loc[table["size"] == 0, "auc"] = [0.5, 0.5, 0.5, 0.5, np.nan]
    uneven = table[(table["size"] < 7) | (table["draw"] > 0)]
    assert analysed(uneven)["n_images"] == round(NUMBERS[6])
    assert analysed(uneven)["doubts"] == []
    with pytest.raises(UserError, match="the folds have too few patients of a class"):
        analysed(table.assign(auc=np.nan))


@pytest.mark.parametrize(
    ("table", "doubt"),
    [
        (curve(lambda n: 0.7, noise=0.03), "does not grow"),
        (curve(LAW, numbers=NUMBERS[-3:]), "there are only 3 sizes"),
        (curve(lambda n: 0.5 + 0.3 * (n > 600), noise=0.001), "does not fit the AUC with all images"),
        (curve(LAW, noise=0.15, draws=2), "wider than 0.1"),
    ],
)
def test_a_fit_that_cannot_be_trusted_predicts_nothing(table, doubt):
    found = analysed(table)
    assert any(doubt in reason for reason in found["doubts"])
    assert sentence(found).startswith("The learning curve predicts nothing, because ")


@pytest.mark.parametrize(("auc", "prevalence"), [(0.9, 0.5), (0.75, 0.1), (0.6, 0.5)])
def test_the_interval_of_the_given_number_of_test_images_has_the_half_width(auc, prevalence):
    """The standard deviation of simulated AUCs agrees with the formula."""
    from scipy.stats import norm
    from sklearn.metrics import roc_auc_score

    n = images_for_interval(auc, prevalence, 0.95)
    y_true = np.arange(n) < round(n * prevalence)
    rng, distance = np.random.default_rng(0), np.sqrt(2) * norm.ppf(auc)
    aucs = [roc_auc_score(y_true, rng.normal(size=n) + distance * y_true) for _ in range(300)]
    assert 1.96 * np.std(aucs) == pytest.approx(HALF_WIDTH, rel=0.2)


@pytest.mark.parametrize(("auc", "prevalence"), [(0.4, 0.5), (1.0, 0.5), (0.8, 0.0), (0.8, float("nan"))])
def test_there_is_no_number_of_test_images_without_both_classes_and_an_auc_above_chance(auc, prevalence):
    assert images_for_interval(auc, prevalence, 0.95) is None
