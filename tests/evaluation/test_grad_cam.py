from itertools import product

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from cxr_pipeline.evaluation.grad_cam import METHOD, SHUFFLES, SIDE, GradCam, Shuffled, explain_images
from cxr_pipeline.training.networks.build import OUTPUT, POOLED, build_model
from cxr_pipeline.training.networks.ensemble import combine
from cxr_pipeline.training.networks.views import with_views
from cxr_pipeline.training.networks.weights import PUBLISHED, SMALL_NETWORKS, SMALLEST_SIZES

SIZE = 64
INTERVALS = {"confidence": 0.9, "seed": 3}
CELLS = [(row, column) for row in range(0, 8, 2) for column in range(1, 8, 2)]


def with_square(row, column, *, rng=0, pattern=250, noise=60):
    """An image of noise, faint by default, with a square that fills one cell of a grid of 8 x 8 pixels."""
    image = np.random.default_rng(rng).choice(noise, (SIZE, SIZE)).astype(np.uint8)
    image[8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = pattern
    return image


def square_finder(activation="sigmoid", kernel=((4.0,), (0.0,)), *, pattern=None):
    """A network whose channel 0 is the grey above 100 of each cell, or its likeness to a pattern; channel 1 is 1."""
    image = keras.Input((SIZE, SIZE, 1), name="image")
    scaled = keras.layers.Rescaling(1 / 255)(image)
    features = keras.layers.Conv2D(2, 8, strides=8, activation="relu", name="cells")(scaled)
    pooled = keras.layers.GlobalAveragePooling2D(name=POOLED)(features)
    inside = keras.layers.Dropout(0.5, seed=0)(pooled)
    model = keras.Model(image, keras.layers.Dense(len(kernel[0]), activation=activation, name=OUTPUT)(inside))
    wanted, offset = (1 / 64, -100 / 255) if pattern is None else (np.sign(pattern - pattern.mean()), 0.0)
    detector = np.stack(np.broadcast_arrays(wanted, np.zeros((8, 8))), axis=-1)[:, :, np.newaxis]
    model.get_layer("cells").set_weights([detector, np.array([offset, 1.0])])
    model.get_layer(OUTPUT).set_weights([np.array(kernel), np.zeros(len(kernel[0]))])
    return model


def random_model():
    """A network of random weights with three exclusive outputs."""
    keras.utils.set_random_seed(5)
    image = keras.Input((SIZE, SIZE, 1), name="image")
    features = keras.layers.Rescaling(1 / 255)(image)
    for units in (6, 8):
        features = keras.layers.Conv2D(units, 3, strides=4, padding="same", name=f"conv_{units}")(features)
        features = keras.layers.BatchNormalization(name=f"bn_{units}")(features)
        features = keras.layers.Activation("relu", name=f"relu_{units}")(features)
    pooled = keras.layers.GlobalAveragePooling2D(name=POOLED)(features)
    hidden = keras.layers.Dense(5, activation="tanh", name="hidden")(pooled)
    return keras.Model(image, keras.layers.Dense(3, activation="softmax", name=OUTPUT)(hidden))


def peak(heatmap):
    """The cell in which the maximum lies."""
    rows, columns = np.nonzero(heatmap == heatmap.max())
    return round((rows.mean() - 3.5) / 8), round((columns.mean() - 3.5) / 8)


@pytest.mark.parametrize(
    ("cell", "options"),
    [
        ((0, 0), {}),
        # The probability is exactly 1 and has no gradient.
        ((4, 4), {"kernel": [[1e5, 0.0], [0.0, 0.0]]}),
        ((7, 3), {"kernel": [[1e5, 0.0], [0.0, 0.0]], "activation": "softmax"}),
    ],
)
def test_a_network_that_detects_a_square_points_into_it(cell, options):
    heatmap = GradCam(square_finder(**options)).heatmaps(with_square(*cell)[np.newaxis], output=0)[0]
    assert (heatmap.shape, heatmap.dtype) == ((SIZE, SIZE), np.float32)
    assert peak(heatmap) == cell
    assert (heatmap.min(), heatmap.max()) == (0, 1)


def test_a_map_follows_the_formula_of_hirescam():
    model, images = random_model(), np.stack([with_square(1, 1), with_square(6, 2, rng=1)])
    features = keras.Model(model.input, model.get_layer("relu_6").output)
    convolution, norm, hidden, output = (model.get_layer(name) for name in ("conv_8", "bn_8", "hidden", OUTPUT))
    expected = []
    for image, index in zip(images, (0, 2), strict=True):
        activation = tf.constant(features(image[np.newaxis, ..., np.newaxis].astype(np.float32)))
        with tf.GradientTape() as tape:
            tape.watch(activation)
            deep = tf.nn.relu(norm(convolution(activation), training=False))
            inside = tf.tanh(tf.reduce_mean(deep, (1, 2)) @ hidden.kernel + hidden.bias)
            logit = (inside @ output.kernel + output.bias)[0, index]
        weights = tape.gradient(logit, activation).numpy()
        coarse = np.maximum((weights * activation.numpy()).sum(-1)[0], 0)
        fine = tf.image.resize(coarse[..., np.newaxis], (SIZE, SIZE)).numpy()[..., 0]
        expected.append(fine / fine.max())

    heatmaps = GradCam(model).heatmaps(images, np.array([0, 2]))

    np.testing.assert_allclose(heatmaps, np.stack(expected), atol=1e-4)


def test_each_output_has_its_own_map_which_is_zero_without_evidence():
    cam = GradCam(square_finder("softmax", kernel=[[4.0, -4.0, 0.0], [0.0, 0.0, 3.0]]))
    first, second, third = cam.heatmaps(np.stack([with_square(2, 3)] * 3), np.array([0, 1, 2]))
    assert peak(first) == (2, 3)
    assert not second.any()
    np.testing.assert_allclose(third, 1, rtol=1e-6)


def test_a_map_whose_numbers_overflow_is_zero():
    model = square_finder("sigmoid", kernel=[[3e38, 1.0], [0.0, 0.0]])
    model.get_layer("cells").set_weights([np.full((8, 8, 1, 2), 1e5), np.zeros(2)])
    overflown, sound = GradCam(model).heatmaps(np.stack([with_square(2, 3)] * 2), np.array([0, 1]))
    assert not overflown.any()
    assert peak(sound) == (2, 3)


def test_the_map_of_an_ensemble_is_the_mean_of_those_of_its_members_whatever_the_views():
    images = np.stack([with_square(2, 3), with_square(5, 6, rng=1)])
    members = [square_finder(kernel=[[weight], [0.0]]) for weight in (4.0, -1.0)]
    ensemble = combine(members, "image")
    averaged = with_views(ensemble, 3, {"rotation": 9, "translation": 0, "zoom": 0, "brightness": 0, "contrast": 0}, 1)
    expected = np.mean([GradCam(member).heatmaps(images, 0) for member in members], axis=0)
    expected /= expected.max(axis=(1, 2), keepdims=True)
    for model in (ensemble, averaged):
        np.testing.assert_allclose(GradCam(model).heatmaps(images, 0), expected, atol=1e-6)
        assert len(list(Shuffled(model, 1).heatmaps(images, np.zeros(2, int)))) == SHUFFLES


def test_other_images_the_size_of_a_batch_and_dropout_make_no_difference():
    images = np.stack([with_square(number, 3, rng=number) for number in range(7)])
    model, outputs = random_model(), np.arange(7) % 3
    before, cam = model.get_weights(), GradCam(model)

    together = cam.heatmaps(images, outputs, batch_size=4)

    alone = [cam.heatmaps(images[[number]], int(outputs[number]), batch_size=4)[0] for number in range(7)]
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_allclose(cam.heatmaps(images, outputs, batch_size=3), together, atol=1e-5)
    assert cam.heatmaps(images[:0], 0).shape == (0, SIZE, SIZE)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize(
    ("name", "size", "expected"),
    [
        ("small_cnn", 224, "block4_conv1_relu"),
        ("densenet121", 224, "pool4_conv"),
        ("resnet50", 96, "conv3_block4_out"),
        # The layers that follow are padding, which shifts the positions.
        ("mobilenetv2", 96, "block_6_expand_relu"),
        # Five convolutions, of which the first halves the image: exactly enough positions, or too few in all layers.
        ("small_cnn", 2 * SIDE, "block1_conv1_relu"),
        ("small_cnn", 2 * SIDE - 2, "block5_conv1_relu"),
    ],
)
def test_the_layer_is_the_deepest_with_enough_positions_that_all_paths_pass(name, size, expected):
    model = build_model(name=name, size=size, n_outputs=2, dropout=0.2)
    layer = model.get_layer(GradCam(model).layer)
    assert layer.name == expected
    images = np.random.default_rng(0).integers(0, 256, (1, size, size, 1)).astype(np.float32)
    features = keras.Model(model.input, layer.output)(images, training=False)
    probability = keras.Model(layer.output, model.output)(features, training=False)
    np.testing.assert_allclose(probability, model(images, training=False), rtol=1e-4)


def test_shuffled_weights_keep_the_values_of_each_array_and_give_other_maps():
    model, images = random_model(), np.random.default_rng(0).integers(0, 255, (3, SIZE, SIZE), np.uint8)
    learnt, shuffled = model.get_weights(), Shuffled(model, 1)

    heatmaps = list(shuffled.heatmaps(images, np.zeros(3, int)))

    assert len(heatmaps) == SHUFFLES
    for drawn, weights, again in zip(heatmaps, shuffled.weights, Shuffled(model, 1).weights, strict=True):
        for old, kept, new, same in zip(learnt, model.get_weights(), weights, again, strict=True):
            np.testing.assert_array_equal(kept, old)
            np.testing.assert_array_equal(new, same)
            np.testing.assert_array_equal(np.sort(new, axis=None), np.sort(old, axis=None))
        copy = keras.models.clone_model(model)
        copy.set_weights(weights)
        np.testing.assert_allclose(drawn, GradCam(copy).heatmaps(images, 0), atol=1e-6)
    every = (learnt, *shuffled.weights, *Shuffled(model, 2).weights)
    assert len({max(weights, key=np.size).tobytes() for weights in every}) == len(every)


class Images:
    """Images in memory, named by their number."""

    def __init__(self, images):
        self.images, self.most = np.stack(images), 0

    def read(self, sha256s):
        self.most = max(self.most, len(sha256s))
        return self.images[[int(sha256) for sha256 in sha256s]]


def draw_squares(boxed, **options):
    """Draw 16 images with a square, their rows of explained images, and the boxes of some of them."""
    images = Images([with_square(*cell, rng=number, **options) for number, cell in enumerate(CELLS)])
    names = [str(number) for number in range(len(CELLS))]
    explained = pd.DataFrame({"sha256": names, "class": "square", "output": 0, "group": names})
    rows = [(str(number), "square", CELLS[number][1] / 8, CELLS[number][0] / 8) for number in boxed]
    boxes = pd.DataFrame(rows, columns=["sha256", "class", "left", "top"])
    return images, explained, boxes.assign(right=boxes["left"] + 0.125, bottom=boxes["top"] + 0.125)


def test_a_model_that_has_learnt_points_into_boxes_and_a_shuffled_one_does_not(monkeypatch):
    stripes = np.tile([250, 0], (8, 4))
    images, explained, boxes = draw_squares(range(len(CELLS)), pattern=stripes, noise=[0, 250])

    found = explain_images(square_finder(pattern=stripes), images, explained, boxes, **INTERVALS)

    square = found["localisation"]["square"]
    assert (found["method"], found["layer"]) == (METHOD, "cells")
    assert (square["n_images"], square["n_boxes"]) == (16, 16)
    assert square["pointing_game"]["value"] == 1
    assert square["heat_in_box"]["value"] > 4 * square["box_area"]["value"]
    assert square["pointing_game_centred"]["value"] < 0.5
    assert found["randomised"]["n_images"] == 16
    assert found["randomised"]["pointing_game"]["value"] < 0.2
    assert abs(found["randomised"]["rank_correlation"]["value"]) < 0.2
    # Images are read a few at a time with the same result.
    images.most = 0
    monkeypatch.setattr("cxr_pipeline.evaluation.grad_cam._CHUNK", 5)
    assert explain_images(square_finder(pattern=stripes), images, explained, boxes, **INTERVALS) == found
    assert images.most == 5


def test_images_without_boxes_count_only_for_the_shuffled_weights():
    images, explained, boxes = draw_squares([1, 4, 5])
    model = square_finder()
    some, none = (explain_images(model, images, explained, drawn, **INTERVALS) for drawn in (boxes, boxes[:0]))
    square = some["localisation"]["square"]
    assert (square["n_images"], square["pointing_game"]["value"], some["randomised"]["n_images"]) == (3, 1, 16)
    assert (none["localisation"], none["randomised"]["pointing_game"]) == ({}, None)
    assert none["randomised"]["rank_correlation"] == some["randomised"]["rank_correlation"]
    empty = explain_images(model, images, explained[:0], boxes, **INTERVALS)
    shuffled = {"n_images": 0, "n_shuffles": SHUFFLES, "rank_correlation": None, "pointing_game": None}
    assert (empty["localisation"], empty["randomised"]) == ({}, shuffled)


def test_a_map_is_that_of_the_output_of_its_class_and_compared_with_the_boxes_of_that_class():
    images, explained, boxes = draw_squares([9])
    dark = {"class": "dark"}
    rows = pd.concat(
        [explained.assign(**{"class": "other"})[:5], explained[9:10], explained[9:10].assign(**dark, output=1)]
    )
    model = square_finder("sigmoid", kernel=[[4.0, -4.0], [0.0, 0.0]])

    boxes = pd.concat([boxes, boxes.assign(**dark)])
    found = explain_images(model, images, rows, boxes, **INTERVALS)["localisation"]

    counted = {name: (each["n_images"], each["pointing_game"]["value"]) for name, each in found.items()}
    assert counted == {"square": (1, 1), "dark": (1, 0)}


@pytest.fixture
def eager():
    """Skip the tracing of graphs, which takes longer than computing one small image."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


# Kind of task: number of outputs, and whether they are exclusive.
KINDS = {"binary": (1, False), "multiclass": (3, True), "multilabel": (3, False)}
# Backbones take seconds to build; the kind of task changes their last layer only.
CASES = [
    *product(SMALL_NETWORKS, ("average", "multilevel"), KINDS),
    *product(PUBLISHED, ["multilevel"], ["multiclass"]),
    *(pytest.param(name, "average", "multilabel", marks=pytest.mark.slow) for name in PUBLISHED),
]


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize(("name", "pooling", "kind"), CASES)
def test_a_network_scores_and_explains_its_smallest_images(name, pooling, kind):
    # The smallest value of resolution.size is 16.
    size, (n_outputs, exclusive) = max(16, SMALLEST_SIZES[name]), KINDS[kind]
    model = build_model(name=name, size=size, pooling=pooling, n_outputs=n_outputs, exclusive=exclusive)
    image = np.random.default_rng(0).integers(0, 256, (1, size, size), np.uint8)
    scores = model(image[..., np.newaxis]).numpy()
    assert scores.shape == (1, n_outputs)
    assert np.isfinite(scores).all()
    heatmap = GradCam(model).heatmaps(image, n_outputs - 1, batch_size=1)
    assert heatmap.shape == image.shape
    assert 0 <= heatmap.min() <= heatmap.max() <= 1
