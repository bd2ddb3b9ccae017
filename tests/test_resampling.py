import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxr_pipeline.resampling import PLANS, plan_sampling

class_sizes = st.lists(st.integers(1, 40), min_size=2, max_size=4)


def draw_films(*sizes):
    """Films of class 0, 1 ..., so many of each."""
    y = np.repeat(np.arange(len(sizes)), sizes)
    names = [f"film{number}.png" for number in range(len(y))]
    return pd.DataFrame(
        {"source": "a", "image": names, "sha256": [f"{number:064x}" for number in range(len(y))], "y": y}
    )


def shown(films, plan):
    return np.bincount(films["y"], weights=plan["count"]).astype(int).tolist()


@given(class_sizes)
def test_none_shows_each_film_once(sizes):
    plan = plan_sampling(draw_films(*sizes), plan="none", class_weights=False, seed=0)

    assert (plan["count"] == 1).all()
    assert (plan["weight"] == 1.0).all()


@given(class_sizes, st.integers(0, 5))
def test_oversampling_levels_up(sizes, seed):
    films = draw_films(*sizes)

    plan = plan_sampling(films, plan="oversample", class_weights=False, seed=seed)

    assert shown(films, plan) == [max(sizes)] * len(sizes)
    ratio = max(sizes) // films["y"].map(dict(enumerate(sizes)))
    assert plan["count"].between(ratio, ratio + 1).all()


@given(class_sizes, st.integers(0, 5))
def test_undersampling_levels_down(sizes, seed):
    films = draw_films(*sizes)

    plan = plan_sampling(films, plan="undersample", class_weights=False, seed=seed)

    assert shown(films, plan) == [min(sizes)] * len(sizes)
    assert plan["count"].isin([0, 1]).all()


@given(class_sizes, st.sampled_from(sorted(PLANS)))
def test_weights_make_classes_equal(sizes, plan_name):
    films = draw_films(*sizes)

    plan = plan_sampling(films, plan=plan_name, class_weights=True, seed=0)

    total = np.bincount(films["y"], weights=plan["count"] * plan["weight"])
    np.testing.assert_allclose(total, plan["count"].sum() / len(sizes))
    if plan_name != "none":
        np.testing.assert_allclose(plan["weight"], 1)


def test_weights_are_those_of_scikit_learn():
    from sklearn.utils.class_weight import compute_sample_weight

    films = draw_films(30, 10)
    plan = plan_sampling(films, plan="none", class_weights=True, seed=0)

    np.testing.assert_allclose(plan["weight"], compute_sample_weight("balanced", films["y"]))


@pytest.mark.parametrize("plan_name", PLANS)
@given(sizes=class_sizes, random=st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(plan_name, sizes, random):
    films = draw_films(*sizes)
    order = list(range(len(films)))
    random.shuffle(order)

    plan = plan_sampling(films, plan=plan_name, class_weights=True, seed=1)
    shuffled = plan_sampling(films.iloc[order], plan=plan_name, class_weights=True, seed=1)

    pd.testing.assert_frame_equal(shuffled, plan.iloc[order].reset_index(drop=True))


@pytest.mark.parametrize(("plan_name", "sizes"), [("oversample", (90, 60)), ("undersample", (90, 30))])
def test_the_seed_decides_which_films(plan_name, sizes):
    films = draw_films(*sizes)
    counts = [plan_sampling(films, plan=plan_name, class_weights=False, seed=seed)["count"] for seed in (0, 0, 1)]

    assert counts[0].equals(counts[1])
    assert not counts[0].equals(counts[2])
    assert counts[0].tolist() != sorted(counts[0])
    assert counts[0].tolist() != sorted(counts[0], reverse=True)


def test_films_left_out_stay_so_when_others_come():
    films = draw_films(200, 50)
    before = plan_sampling(films.drop(index=[3]), plan="undersample", class_weights=False, seed=0)
    after = plan_sampling(films, plan="undersample", class_weights=False, seed=0)

    both = before.merge(after, on=["source", "image", "sha256"])
    assert len(both) == 249
    assert (both["count_x"] != both["count_y"]).sum() <= 1


def test_columns_and_types():
    plan = plan_sampling(draw_films(3, 2), plan="oversample", class_weights=True, seed=0)

    assert plan.columns.tolist() == ["source", "image", "sha256", "count", "weight"]
    assert plan["count"].dtype == np.int64
    assert plan["weight"].dtype == np.float64


@pytest.mark.parametrize("plan_name", PLANS)
def test_no_films(plan_name):
    plan = plan_sampling(draw_films(0), plan=plan_name, class_weights=True, seed=0)

    assert len(plan) == 0
    assert plan["count"].dtype == np.int64


def test_wrong_input_is_refused():
    films = draw_films(2, 2)
    with pytest.raises(ValueError, match="none, oversample, undersample"):
        plan_sampling(films, plan="smote", class_weights=False, seed=0)
    with pytest.raises(ValueError, match="1 without one"):
        plan_sampling(films.assign(y=[0, 1, 1, np.nan]), plan="none", class_weights=False, seed=0)
