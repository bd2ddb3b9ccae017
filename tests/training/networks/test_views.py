"""Tests of test-time augmentation: the mean over views that are the same for every image, batch and process."""

import keras
import numpy as np
import pytest

from cxr_pipeline.training.networks.build import OUTPUT, build_model
from cxr_pipeline.training.networks.views import STRENGTH, affine_matrix, draw_views, network_of, with_views

SIZE = 32
IMAGES = np.random.default_rng(0).integers(0, 256, (6, SIZE, SIZE, 1), dtype=np.uint8)
AUGMENTATION = {"rotation": 10, "translation": 0.1, "zoom": 0.2, "brightness": 0.1, "contrast": 0.3, "noise": 0.5}
NO_CHANGE = dict.fromkeys(("rotation", "across", "down", "zoom", "contrast", "brightness"), 0.0)


@pytest.fixture(scope="module")
def network():
    model = build_model(name="small_cnn", size=SIZE, n_outputs=2)
    output = model.get_layer(OUTPUT)
    output.set_weights([np.random.default_rng(0).normal(size=weight.shape) for weight in output.get_weights()])
    return model


def test_the_score_is_the_mean_over_the_image_and_its_views(network, tmp_path):
    model = with_views(network, 4, AUGMENTATION, seed=1)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    levels, scores = keras.ops.cast(IMAGES, "float32"), [network.predict(IMAGES, verbose=0)]
    for view in draw_views(3, AUGMENTATION, seed=1):
        moved = keras.ops.image.affine_transform(levels, affine_matrix(view, SIZE)) - 127.5
        changed = moved * (1 + view["contrast"]) + 127.5 + 255 * view["brightness"]
        scores.append(network.predict(np.clip(changed, 0, 255), verbose=0))
    expected = np.mean(scores, axis=0)
    assert np.abs(scores[0] - expected).max() > 1e-3
    assert (model.name, network_of(model).name) == ("small_cnn", "network")
    for each in (model, loaded):
        np.testing.assert_allclose(each.predict(IMAGES, verbose=0), expected, atol=1e-6)
        one_by_one = np.concatenate([each.predict(image[np.newaxis], verbose=0) for image in IMAGES])
        np.testing.assert_allclose(one_by_one, expected, atol=1e-6)
        np.testing.assert_allclose(network_of(each).predict(IMAGES, verbose=0), scores[0], atol=1e-6)


def test_one_view_is_the_image(network):
    assert with_views(network, 1, AUGMENTATION, seed=1) is network
    assert network_of(network) is network


def test_views_are_pairs_of_opposite_changes_within_their_limits():
    views = draw_views(7, AUGMENTATION, seed=3)
    assert views == draw_views(9, AUGMENTATION, seed=3)[:7]
    assert views != draw_views(7, AUGMENTATION, seed=4)
    for first, second in zip(views[:6:2], views[1:6:2], strict=True):
        assert second == {name: -value for name, value in first.items()}
    limits = {**AUGMENTATION, "across": AUGMENTATION["translation"], "down": AUGMENTATION["translation"]}
    assert all(0 < abs(value) <= STRENGTH * limits[name] for view in views for name, value in view.items())


@pytest.mark.parametrize(
    ("change", "position", "seen_at"),
    [
        ({}, (3, 5), (3, 5)),
        ({"rotation": 90}, (31, 0), (31, 31)),
        ({"across": 0.25}, (2, 2), (10, 2)),
        ({"down": -0.25}, (9, 9), (9, 1)),
        ({"zoom": 1.0}, (15, 16), (14.5, 16.5)),
    ],
)
def test_a_position_in_a_view_is_looked_up_in_the_image(change, position, seen_at):
    """Positions are column and row; the centre of 32 pixels is 15.5."""
    a, b, c, d, e, f, *perspective = affine_matrix(NO_CHANGE | change, SIZE)
    column, row = position
    assert (a * column + b * row + c, d * column + e * row + f) == pytest.approx(seen_at, abs=1e-4)
    assert perspective == [0, 0]
