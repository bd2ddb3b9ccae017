import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxr_pipeline.data.resampling import PLANS, plan_sampling, rarest_class

class_sizes = st.lists(st.integers(1, 40), min_size=2, max_size=4)


def draw_images(*sizes):
    """Images of class 0, 1 ..., so many of each."""
    y = np.repeat(np.arange(len(sizes)), sizes)
    names = [f"image{number}.png" for number in range(len(y))]
    return pd.DataFrame(
        {"source": "a", "image": names, "sha256": [f"{number:064x}" for number in range(len(y))], "y": y}
    )


def shown(images, plan):
    return np.bincount(images["y"], weights=plan["count"]).astype(int).tolist()


@given(class_sizes)
def test_none_shows_each_image_once(sizes):
    plan = plan_sampling(draw_images(*sizes), plan="none", class_weights=False, seed=0)

    assert (plan["count"] == 1).all()
    assert (plan["weight"] == 1.0).all()


@given(class_sizes, st.integers(0, 5))
def test_oversampling_levels_up(sizes, seed):
    images = draw_images(*sizes)

    plan = plan_sampling(images, plan="oversample", class_weights=False, seed=seed)

    assert shown(images, plan) == [max(sizes)] * len(sizes)
    ratio = max(sizes) // images["y"].map(dict(enumerate(sizes)))
    assert plan["count"].between(ratio, ratio + 1).all()


@given(class_sizes, st.integers(0, 5))
def test_undersampling_levels_down(sizes, seed):
    images = draw_images(*sizes)

    plan = plan_sampling(images, plan="undersample", class_weights=False, seed=seed)

    assert shown(images, plan) == [min(sizes)] * len(sizes)
    assert plan["count"].isin([0, 1]).all()


@given(class_sizes, st.sampled_from(sorted(PLANS)))
def test_weights_make_classes_equal(sizes, plan_name):
    images = draw_images(*sizes)

    plan = plan_sampling(images, plan=plan_name, class_weights=True, seed=0)

    total = np.bincount(images["y"], weights=plan["count"] * plan["weight"])
    np.testing.assert_allclose(total, plan["count"].sum() / len(sizes))
    if plan_name != "none":
        np.testing.assert_allclose(plan["weight"], 1)


def test_weights_are_those_of_scikit_learn():
    from sklearn.utils.class_weight import compute_sample_weight

    images = draw_images(30, 10)
    plan = plan_sampling(images, plan="none", class_weights=True, seed=0)

    np.testing.assert_allclose(plan["weight"], compute_sample_weight("balanced", images["y"]))


@pytest.mark.parametrize("plan_name", PLANS)
@given(sizes=class_sizes, random=st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(plan_name, sizes, random):
    images = draw_images(*sizes)
    order = list(range(len(images)))
    random.shuffle(order)

    plan = plan_sampling(images, plan=plan_name, class_weights=True, seed=1)
    shuffled = plan_sampling(images.iloc[order], plan=plan_name, class_weights=True, seed=1)

    pd.testing.assert_frame_equal(shuffled, plan.iloc[order].reset_index(drop=True))


@pytest.mark.parametrize(("plan_name", "sizes"), [("oversample", (90, 60)), ("undersample", (90, 30))])
def test_the_seed_decides_which_images(plan_name, sizes):
    images = draw_images(*sizes)
    counts = [plan_sampling(images, plan=plan_name, class_weights=False, seed=seed)["count"] for seed in (0, 0, 1)]

    assert counts[0].equals(counts[1])
    assert not counts[0].equals(counts[2])
    assert counts[0].tolist() != sorted(counts[0])
    assert counts[0].tolist() != sorted(counts[0], reverse=True)


def test_images_left_out_stay_so_when_others_come():
    images = draw_images(200, 50)
    before = plan_sampling(images.drop(index=[3]), plan="undersample", class_weights=False, seed=0)
    after = plan_sampling(images, plan="undersample", class_weights=False, seed=0)

    both = before.merge(after, on=["source", "image", "sha256"])
    assert len(both) == 249
    assert (both["count_x"] != both["count_y"]).sum() <= 1


@given(class_sizes, st.integers(1, 5), st.integers(0, 3))
def test_a_limit_cuts_what_is_shown_more_often(sizes, max_repeat, seed):
    images = draw_images(*sizes)
    free, cut = (
        plan_sampling(images, plan="oversample", class_weights=True, seed=seed, max_repeat=limit)
        for limit in (None, max_repeat)
    )

    assert cut["count"].tolist() == free["count"].clip(upper=max_repeat).tolist()
    total = np.bincount(images["y"], weights=cut["count"] * cut["weight"])
    np.testing.assert_allclose(total, cut["count"].sum() / len(sizes))


def test_five_images_beside_a_thousand():
    images = draw_images(988, 5)
    plan = plan_sampling(images, plan="oversample", class_weights=False, seed=0, max_repeat=20)
    assert shown(images, plan) == [988, 100]
    assert plan["count"].dtype == np.int64


@pytest.mark.parametrize("plan_name", PLANS)
def test_no_limit_below_one(plan_name):
    with pytest.raises(ValueError, match="max_repeat=0"):
        plan_sampling(draw_images(2, 2), plan=plan_name, class_weights=False, seed=0, max_repeat=0)


@given(st.lists(st.integers(0, 3), min_size=1))
def test_of_exclusive_classes_the_number_is_the_class(classes):
    one_hot = pd.DataFrame(np.eye(4)[classes], columns=["a", "b", "c", "d"])
    assert rarest_class(one_hot).tolist() == classes


def test_of_several_classes_the_rarest_counts():
    labels = pd.DataFrame(
        {"often": [1, 1, 1, 0, 1], "rare": [0, 1, np.nan, 0, 0], "seldom": [0, 1, 1, np.nan, 0]}, dtype="float64"
    )
    assert rarest_class(labels).tolist() == [0, 1, 2, 3, 0]
    assert rarest_class(labels.iloc[:0]).tolist() == []


def test_columns_and_types():
    plan = plan_sampling(draw_images(3, 2), plan="oversample", class_weights=True, seed=0)

    assert plan.columns.tolist() == ["source", "image", "sha256", "count", "weight"]
    assert plan["count"].dtype == np.int64
    assert plan["weight"].dtype == np.float64


@pytest.mark.parametrize("plan_name", PLANS)
def test_no_images(plan_name):
    plan = plan_sampling(draw_images(0), plan=plan_name, class_weights=True, seed=0)

    assert len(plan) == 0
    assert plan["count"].dtype == np.int64


def test_wrong_input_is_refused():
    images = draw_images(2, 2)
    with pytest.raises(ValueError, match="none, oversample, undersample"):
        plan_sampling(images, plan="smote", class_weights=False, seed=0)
    with pytest.raises(ValueError, match="1 without one"):
        plan_sampling(images.assign(y=[0, 1, 1, np.nan]), plan="none", class_weights=False, seed=0)
