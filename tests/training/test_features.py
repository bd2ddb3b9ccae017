import keras
import numpy as np
import pytest

from cxr_pipeline.training.augmentation import STRENGTHS
from cxr_pipeline.training.features import BackboneFeatures, run_batches, weights_digest

AUGMENTATION = {
    **dict.fromkeys(STRENGTHS, 0.0),
    **{"rotation": 10.0, "brightness": 0.1, "flip": False, "seed": 0, "views": 2},
}
SIZE = 16


class CountingImages:
    """Random images seeded by their digest; records which were read."""

    def __init__(self, digest="recipe"):
        self.digest = digest
        self.reads = []

    def read(self, sha256s):
        self.reads += sha256s
        return np.stack([np.random.default_rng(int(s, 16)).integers(0, 256, (SIZE, SIZE), np.uint8) for s in sha256s])


def sha256s(n, start=0):
    return [f"{place:064x}" for place in range(start, start + n)]


def entries(n, views=0, start=0):
    return [(sha256, view) for sha256 in sha256s(n, start) for view in range(views + 1)]


def backbone(seed=0):
    """The lower and the upper part of a small backbone."""
    keras.utils.set_random_seed(seed)
    image = keras.Input((SIZE, SIZE, 1))
    cut = keras.layers.Conv2D(3, 3, strides=4, padding="same", name="cut")(image / 255)
    top = keras.layers.Conv2D(4, 3, padding="same", name="top")(cut)
    return keras.Model(image, cut), keras.Model(cut, keras.layers.GlobalAveragePooling2D(name="pooled")(top))


def features(folder, images=None, *, weights=0, **changes):
    lower, upper = backbone(weights)
    return BackboneFeatures(
        images=images or CountingImages(), lower=lower, upper=upper, augmentation=AUGMENTATION | changes, folder=folder
    )


def test_features_are_the_outputs_of_the_networks(tmp_path, caplog):
    images = CountingImages()
    computed = features(tmp_path, images)
    with caplog.at_level("INFO", "cxr_pipeline"):
        computed.prepare(entries(3, views=2), at_cut=True)
    assert "for 9 of 9 images and views, which may take minutes; later runs reuse them." in caplog.text
    lower, upper = backbone()
    expected = lower(images.read(sha256s(3))[..., np.newaxis].astype(np.float32))
    at_cut, pooled = computed.read_cut(entries(3)), computed.read_pooled(entries(3))
    np.testing.assert_allclose(at_cut, expected, rtol=1e-2, atol=1e-3)
    np.testing.assert_allclose(pooled, upper(expected), rtol=1e-2, atol=1e-3)
    augmented = computed.read_cut([(sha256s(1)[0], view) for view in range(3)])
    assert min(np.abs(augmented[0] - augmented[1]).max(), np.abs(augmented[1] - augmented[2]).max()) > 0.01


def test_pooled_features_do_not_depend_on_features_at_the_cut(tmp_path):
    requested = entries(300, views=1)
    both, alone = features(tmp_path / "both"), features(tmp_path / "alone")
    both.prepare(requested, at_cut=True)
    alone.prepare(requested, at_cut=False)
    np.testing.assert_array_equal(alone.read_pooled(requested), both.read_pooled(requested))
    with pytest.raises(KeyError):
        alone.read_cut(requested)
    images = CountingImages()
    features(tmp_path / "both", images).prepare(requested, at_cut=False)
    assert images.reads == []


def test_added_images_neither_recompute_nor_change_earlier_features(tmp_path):
    features(tmp_path / "grown").prepare(entries(3, views=2), at_cut=True)
    images = CountingImages()
    grown = features(tmp_path / "grown", images)
    grown.prepare(entries(40, views=2), at_cut=True)
    assert set(images.reads) == set(sha256s(37, start=3))
    at_once = features(tmp_path / "at once")
    at_once.prepare(entries(40, views=2), at_cut=True)
    np.testing.assert_array_equal(grown.read_cut(entries(40, views=2)), at_once.read_cut(entries(40, views=2)))


@pytest.mark.parametrize(
    ("changes", "recipe", "n_read"),
    [
        # Features of unaugmented images remain valid, but all images are augmented anew.
        ({"rotation": 5.0}, "recipe", 3),
        ({"seed": 1}, "recipe", 3),
        ({"views": 9}, "recipe", 0),
        ({"weights": 1}, "recipe", 6),
        ({}, "another", 6),
    ],
)
def test_features_are_computed_again_if_something_changes_them(tmp_path, changes, recipe, n_read):
    features(tmp_path).prepare(entries(3, views=1), at_cut=True)
    images = CountingImages(recipe)
    features(tmp_path, images, **changes).prepare(entries(3, views=1), at_cut=True)
    assert len(images.reads) == n_read


def test_the_features_of_an_image_do_not_depend_on_its_batch():
    lower, _ = backbone()
    images = CountingImages().read(sha256s(40))[..., np.newaxis]
    together = run_batches(lower, images)
    alone = np.concatenate([run_batches(lower, images[place : place + 1]) for place in (0, 17, 39)])
    np.testing.assert_array_equal(alone, together[[0, 17, 39]])
    # Values beyond float16 are clipped.
    number = keras.Input((1,))
    clipped = run_batches(keras.Model(number, number * 1000), np.array([[1.0], [1e6], [-1e6]]))
    np.testing.assert_array_equal(clipped[:, 0], [1000, 65504, -65504])


def test_the_digest_of_weights_depends_on_every_value():
    lower, _ = backbone()
    before = weights_digest(lower)
    assert before == weights_digest(backbone()[0])
    kernel, bias = lower.get_layer("cut").get_weights()
    bias[-1] += 1e-6
    lower.get_layer("cut").set_weights([kernel, bias])
    assert weights_digest(lower) != before
