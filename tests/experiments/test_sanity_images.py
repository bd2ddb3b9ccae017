from collections.abc import Sequence

import numpy as np

from cxr_pipeline.experiments.sanity_images import balanced_subset, shuffle_labels
from cxr_pipeline.training.image_sets import ImageSet


class Images:
    """A distinct image per number; names ending in "copy" have the same pixels."""

    digest = "images"

    def read(self, sha256s: Sequence[str]) -> np.ndarray:
        return np.array([np.full((2, 2), int(name.split("copy")[0], 16)) for name in sha256s], np.uint8)


def image_set(places: Sequence[int] | np.ndarray, y: np.ndarray, suffix: str = "") -> ImageSet:
    names = np.array([f"{place:02x}{suffix}" for place in places])
    return ImageSet.unweighted(images=Images(), sha256=names, y=y[places])


def several_labels() -> np.ndarray:
    """Return labels [140, 3] of a multilabel task of which some are unknown."""
    rng = np.random.default_rng(1)
    y = (rng.random((140, 3)) < 0.3).astype(np.float32)
    y[rng.random(y.shape) < 0.1] = np.nan
    return y


BINARY = (np.arange(140)[:, np.newaxis] % 4 == 0).astype(np.float32)


def test_labels_are_shuffled_between_images_over_both_sets() -> None:
    y = several_labels()
    first, rest = image_set(np.arange(80), y), image_set(np.arange(80, 140), y)
    train, validation, contents = shuffle_labels(first, rest, seed=0)
    before = np.concatenate([first.y, rest.y])
    after = np.concatenate([train.y, validation.y])
    assert sorted(map(str, before)) == sorted(map(str, after))
    assert (before[:80] != after[:80]).any(axis=1).mean() > 0.3
    assert (np.nansum(rest.y, axis=0) != np.nansum(validation.y, axis=0)).any()
    assert len(set(contents)) == len(contents) == 60
    np.testing.assert_array_equal(train.sha256, first.sha256)
    again, _, _ = shuffle_labels(first, rest, seed=0)
    np.testing.assert_array_equal(again.y, train.y)
    other, _, _ = shuffle_labels(first, rest, seed=1)
    assert (np.nan_to_num(other.y, nan=2) != np.nan_to_num(train.y, nan=2)).any()


def test_copies_keep_the_same_label() -> None:
    y = BINARY
    first, copies = image_set(np.arange(80), y), image_set(np.arange(40), y, suffix="copy")
    train, validation, contents = shuffle_labels(first, copies, seed=0)
    np.testing.assert_array_equal(validation.y, train.y[:40])
    assert len(set(contents)) == 40


def test_a_subset_is_balanced_over_the_classes() -> None:
    y = np.tile(np.array([1, 0, 0], np.float32), (140, 1))
    y[7], y[50:60] = [0, 1, 0], [0, 0, 1]
    chosen = balanced_subset(image_set(np.arange(140), y), 15, seed=0)
    assert chosen.y.sum(axis=0).tolist() == [7, 1, 7]
    assert len(set(chosen.sha256)) == 15
    assert list(balanced_subset(image_set(np.arange(140), y), 15, seed=1).sha256) != list(chosen.sha256)
    assert balanced_subset(image_set(np.arange(140), y), 2, seed=0).y.sum(axis=0).tolist() == [1, 1, 1]
    assert (chosen.count == 1).all()
    np.testing.assert_array_equal(y[[int(name, 16) for name in chosen.sha256]], chosen.y)


def test_a_subset_has_images_without_a_class_too() -> None:
    binary = balanced_subset(image_set(np.arange(140), BINARY), 20, seed=0)
    assert binary.y.sum() == 10
    y = np.zeros((140, 2), np.float32)
    y[:3], y[3:5], y[5:100] = [1, 0], [1, 1], np.nan
    several = balanced_subset(image_set(np.arange(140), y), 200, seed=0)
    assert len(several.y) == 45
    assert not np.isnan(several.y).any()
