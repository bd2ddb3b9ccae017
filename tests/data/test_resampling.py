import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_sample_weight

from cxr_pipeline.data.resampling import plan_sampling, rarest_class

PLANS = ("none", "oversample", "undersample")
class_sizes = st.lists(st.integers(1, 40), min_size=2, max_size=4)


def make_images(*sizes):
    """Return a table of images of class 0, 1 ..., with the given number of each."""
    y = np.repeat(np.arange(len(sizes)), sizes)
    names, hashes = ([form.format(number) for number in range(len(y))] for form in ("image{}.png", "{:064x}"))
    return pd.DataFrame({"source": "a", "image": names, "sha256": hashes, "y": y})


def plan_of(images, plan, *, class_weights=False, seed=0, **options):
    return plan_sampling(images, plan=plan, class_weights=class_weights, seed=seed, **options)


@settings(max_examples=25)
@given(class_sizes, st.integers(0, 5), st.integers(1, 5))
def test_each_class_is_shown_as_often_as_the_plan_says(sizes, seed, max_repeat):
    images = make_images(*sizes)
    plans = {name: plan_of(images, name, seed=seed) for name in PLANS}
    assert (plans["none"]["count"] == 1).all()
    for plan in plans.values():
        assert plan.columns.tolist() == ["source", "image", "sha256", "count", "weight"]
        assert (plan["count"].dtype, plan["weight"].dtype) == (np.int64, np.float64)
        assert (plan["weight"] == 1.0).all()
    for name, size in (("oversample", max(sizes)), ("undersample", min(sizes))):
        assert np.bincount(images["y"], weights=plans[name]["count"]).tolist() == [size] * len(sizes)
    ratio = max(sizes) // images["y"].map(dict(enumerate(sizes)))
    assert plans["oversample"]["count"].between(ratio, ratio + 1).all()
    assert plans["undersample"]["count"].isin([0, 1]).all()
    limited = plan_of(images, "oversample", seed=seed, max_repeat=max_repeat)
    assert limited["count"].tolist() == plans["oversample"]["count"].clip(upper=max_repeat).tolist()


@given(class_sizes, st.sampled_from(sorted(PLANS)), st.one_of(st.none(), st.integers(1, 5)))
def test_class_weights_balance_the_classes(sizes, name, max_repeat):
    images = make_images(*sizes)
    plan = plan_of(images, name, class_weights=True, max_repeat=max_repeat)
    total = np.bincount(images["y"], weights=plan["count"] * plan["weight"])
    np.testing.assert_allclose(total, plan["count"].sum() / len(sizes))
    if name == "none":
        np.testing.assert_allclose(plan["weight"], compute_sample_weight("balanced", images["y"]))
    elif max_repeat is None:
        np.testing.assert_allclose(plan["weight"], 1)


@settings(max_examples=25)
@given(st.sampled_from(PLANS), class_sizes, st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(name, sizes, random):
    images = make_images(*sizes)
    order = list(range(len(images)))
    random.shuffle(order)
    plan, shuffled = (plan_of(table, name, class_weights=True) for table in (images, images.iloc[order]))
    pd.testing.assert_frame_equal(shuffled, plan.iloc[order].reset_index(drop=True))


@pytest.mark.parametrize(("name", "sizes"), [("oversample", (90, 60)), ("undersample", (90, 30))])
def test_the_seed_decides_which_images(name, sizes):
    counts = [plan_of(make_images(*sizes), name, seed=seed)["count"] for seed in (0, 0, 1)]
    assert counts[0].equals(counts[1])
    assert not counts[0].equals(counts[2])
    assert counts[0].tolist() not in (sorted(counts[0]), sorted(counts[0], reverse=True))


def test_the_choice_changes_little_when_images_are_added():
    images = make_images(200, 50)
    before, after = plan_of(images.drop(index=[3]), "undersample"), plan_of(images, "undersample")
    both = before.merge(after, on=["source", "image", "sha256"])
    assert len(both) == 249
    assert (both["count_x"] != both["count_y"]).sum() <= 1


def test_classes_are_balanced_within_sources():
    images = make_images(8, 4)
    images["source"] = ["a"] * 6 + ["b"] * 2 + ["a", "b", "b", "b"]
    plan = plan_of(images, "oversample", within_sources=True)
    counts = plan["count"].groupby([images["source"], images["y"]]).sum()
    assert counts.to_dict() == {("a", 0): 6, ("a", 1): 6, ("b", 0): 6, ("b", 1): 6}


def test_the_rarest_of_several_classes():
    labels = pd.DataFrame(
        {"often": [1, 1, 1, 0, 1], "rare": [0, 1, np.nan, 0, 0], "seldom": [0, 1, 1, np.nan, 0]}, dtype="float64"
    )
    assert rarest_class(labels).tolist() == [0, 1, 2, 3, 0]
    assert rarest_class(labels.iloc[:0]).tolist() == []
    exclusive = np.eye(4)[[3, 0, 0, 2, 1]]
    assert rarest_class(pd.DataFrame(exclusive)).tolist() == [3, 0, 0, 2, 1]
