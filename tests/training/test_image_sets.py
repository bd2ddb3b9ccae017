import hashlib
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxr_pipeline.training.image_sets import ImageSet, Inputs, batches, epoch_order, image_sets

IMAGES = SimpleNamespace(digest="recipe")


def image_set(**changes):
    arrays = {"sha256": ["a", "b", "c"], "y": [[1], [0], [0]], "weight": [2.0, 1.0, 1.0], "count": [3, 1, 1]}
    return ImageSet(images=IMAGES, **{name: np.array(values) for name, values in (arrays | changes).items()})


def test_prevalence_uses_counts_and_weights_and_ignores_unknown_labels():
    unweighted = ImageSet.unweighted(images=IMAGES, sha256=np.array(["a", "b", "c"]), y=np.array([[1], [0], [0]]))
    assert unweighted.prevalence == pytest.approx([1 / 3])
    y = [[1, np.nan, np.nan], [np.nan, 0, np.nan], [0, 1, np.nan]]
    np.testing.assert_allclose(image_set(y=y).prevalence, [6 / 7, 1 / 2, np.nan])


@pytest.mark.parametrize(
    "changes",
    [{"sha256": ["a", "b", "d"]}, {"y": [[0], [1], [0]]}, {"weight": [1.0, 1.0, 1.0]}, {"count": [1, 1, 1]}],
    ids=lambda changes: next(iter(changes)),
)
def test_the_digest_depends_on_every_array(changes):
    assert image_set().digest == image_set().digest
    assert image_set(**changes).digest != image_set().digest


def test_image_sets_are_the_planned_and_the_validation_images():
    sha256s = [hashlib.sha256(bytes([number])).hexdigest() for number in range(5)]
    rows = {"source": "s", "image": list("abcde"), "sha256": sha256s, "patient_id": list("vwxyz")}
    manifest = pd.DataFrame({**rows, "label_mass": [0, 1, np.nan, 1, 0], "label_nodule": [1, 0, 0, 1, 1]})
    splits = pd.DataFrame({**rows, "split": ["train", "train", "train", "validation", "test"]})
    plan = pd.DataFrame({"source": "s", "image": ["c", "a"], "sha256": [sha256s[2], sha256s[0]]})
    plan = plan.assign(count=[3, 1], weight=[0.5, 2.0])
    train, validation = image_sets(IMAGES, manifest, splits, plan, outputs=("nodule", "mass"))
    assert list(train.sha256) == [sha256s[2], sha256s[0]]
    np.testing.assert_array_equal(train.y, [[0, np.nan], [1, 0]])
    assert (list(train.count), list(train.weight)) == ([3, 1], [0.5, 2.0])
    assert list(validation.sha256) == [sha256s[3]]
    np.testing.assert_array_equal(validation.y, [[1, 1]])
    assert (list(validation.count), list(validation.weight)) == ([1], [1.0])


counts = st.lists(st.integers(0, 4), min_size=1, max_size=30).map(np.array)


@given(count=counts, views=st.integers(0, 5), seed=st.integers(0, 2**31 - 1), epoch=st.integers(0, 50))
def test_an_image_appears_as_often_as_planned_and_in_each_view_equally_often(count, views, seed, epoch):
    shown = np.zeros((len(count), views + 1), int)
    for number in range(epoch, epoch + views + 1):
        order = epoch_order(count, views=views, seed=seed, epoch=number)
        np.testing.assert_array_equal(np.bincount(order[:, 0], minlength=len(count)), count)
        np.add.at(shown, tuple(order.T), 1)
    assert (shown == count[:, np.newaxis]).all()


def test_the_order_depends_on_seed_and_epoch():
    count = np.ones(50, int)
    first = epoch_order(count, views=3, seed=1, epoch=0)
    np.testing.assert_array_equal(first, epoch_order(count, views=3, seed=1, epoch=0))
    for other in (epoch_order(count, views=3, seed=1, epoch=4), epoch_order(count, views=3, seed=2, epoch=0)):
        assert not np.array_equal(first[:, 0], other[:, 0])


@pytest.mark.parametrize("batch_size", [1, 4, 7, 20])
def test_batches_hold_inputs_labels_and_weights_of_the_same_images(batch_size):
    y, weight = np.arange(21, dtype=np.float32).reshape(7, 3), np.arange(7, dtype=np.float32) * 10
    y[2, 1] = np.nan
    order = np.array([[6, 0], [2, 1], [2, 0], [0, 3], [5, 1], [1, 1], [3, 0]])
    inputs = Inputs(lambda entries: np.array(entries, np.uint8), shape=(2,), dtype="uint8")
    dataset = batches(inputs, list("0123456"), order, batch_size=batch_size, targets=(y, weight))
    read = [[part.numpy() for part in batch] for batch in dataset]
    assert int(dataset.cardinality()) == len(read)
    assert [len(batch[0]) for batch in read][:-1] == [batch_size] * (len(read) - 1)
    images, labels, weights = (np.concatenate([batch[part] for batch in read]) for part in range(3))
    np.testing.assert_array_equal(images, order)
    np.testing.assert_array_equal(labels, y[order[:, 0]])
    np.testing.assert_array_equal(weights, weight[order[:, 0]])
