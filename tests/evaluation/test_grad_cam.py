from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from cxr_pipeline.evaluation.grad_cam import METHOD, SHUFFLES, SIDE, GradCam, Shuffled, explain_images
from cxr_pipeline.training.networks.build import build_model
from cxr_pipeline.training.networks.heads import OUTPUT, POOLED

SIZE = 64
BOOTSTRAP = {"replicates": 50, "confidence": 0.9, "seed": 3}


def with_square(row: int, column: int, grey: int = 250, rng: int = 0) -> np.ndarray:
    """An image of faint noise with a square of 8 x 8 pixels on the grid of 8."""
    image = np.random.default_rng(rng).integers(0, 60, (SIZE, SIZE)).astype(np.uint8)
    image[8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = grey
    return image


def finder(
    activation: str = "sigmoid", kernel: Sequence[Sequence[float]] = ((4.0,), (0.0,)), hidden: bool = False
) -> Any:
    """Channel 0 is the grey above 100 of each cell of 8 x 8 pixels, channel 1 is 1 everywhere."""
    image = keras.Input((SIZE, SIZE, 1), name="image")
    scaled = keras.layers.Rescaling(1 / 255)(image)
    features = keras.layers.Conv2D(2, 8, strides=8, activation="relu", name="cells")(scaled)
    pooled = keras.layers.GlobalAveragePooling2D(name=POOLED)(features)
    inside = keras.layers.Dropout(0.5, seed=0)(pooled)
    if hidden:
        inside = keras.layers.Dense(2, activation="relu", name="hidden", kernel_initializer="identity")(inside)
    output = keras.layers.Dense(len(kernel[0]), activation=activation, dtype="float32", name=OUTPUT)(inside)
    model = keras.Model(image, output)
    detector = np.stack([np.full((8, 8, 1), 1 / 64), np.zeros((8, 8, 1))], axis=-1)
    model.get_layer("cells").set_weights([detector, np.array([-100 / 255, 1.0])])
    model.get_layer(OUTPUT).set_weights([np.array(kernel), np.zeros(len(kernel[0]))])
    return model


def random_model(outputs: int = 3, activation: str = "softmax", dtype: str = "float32") -> Any:
    keras.utils.set_random_seed(5)
    image = keras.Input((SIZE, SIZE, 1), name="image")
    features = keras.layers.Rescaling(1 / 255, dtype="float32")(image)
    for units in (6, 8):
        features = keras.layers.Conv2D(units, 3, strides=4, padding="same", dtype=dtype, name=f"conv_{units}")(features)
        features = keras.layers.BatchNormalization(dtype=dtype, name=f"bn_{units}")(features)
        features = keras.layers.Activation("relu", dtype=dtype, name=f"relu_{units}")(features)
    pooled = keras.layers.GlobalAveragePooling2D(dtype=dtype, name=POOLED)(features)
    hidden = keras.layers.Dense(5, activation="tanh", dtype=dtype, name="hidden")(pooled)
    return keras.Model(image, keras.layers.Dense(outputs, activation=activation, dtype="float32", name=OUTPUT)(hidden))


def peak(heatmap: np.ndarray) -> tuple[int, int]:
    """The cell of 8 x 8 pixels in which the maximum lies."""
    rows, columns = np.nonzero(heatmap == heatmap.max())
    return round((rows.mean() - 3.5) / 8), round((columns.mean() - 3.5) / 8)


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("place", [(0, 0), (2, 5), (7, 3)])
def test_a_network_that_looks_for_a_square_points_into_it(place: tuple[int, int], hidden: bool) -> None:
    heatmap = GradCam(finder(hidden=hidden)).heatmaps(with_square(*place)[np.newaxis], output=0)[0]
    assert heatmap.shape == (SIZE, SIZE)
    assert heatmap.dtype == np.float32
    assert peak(heatmap) == place
    assert (heatmap.min(), heatmap.max()) == (0, 1)


def test_a_map_follows_the_formula_of_the_paper() -> None:
    model, images = random_model(), np.stack([with_square(1, 1), with_square(6, 2, rng=1)])
    features = keras.Model(model.input, model.get_layer("relu_6").output)
    convolution, normalisation, hidden, output = (
        model.get_layer(name) for name in ("conv_8", "bn_8", "hidden", OUTPUT)
    )
    expected = []
    for image, asked in zip(images, (0, 2), strict=True):
        activation = tf.constant(features(image[np.newaxis, ..., np.newaxis].astype(np.float32)))
        with tf.GradientTape() as tape:
            tape.watch(activation)
            deep = tf.nn.relu(normalisation(convolution(activation), training=False))
            inside = tf.tanh(tf.reduce_mean(deep, (1, 2)) @ hidden.kernel + hidden.bias)
            logit = (inside @ output.kernel + output.bias)[0, asked]
        weights = tape.gradient(logit, activation).numpy()
        coarse = np.maximum((weights * activation.numpy()).sum(-1)[0], 0)
        fine = tf.image.resize(coarse[..., np.newaxis], (SIZE, SIZE)).numpy()[..., 0]
        expected.append(fine / fine.max())
    found = GradCam(model).heatmaps(images, np.array([0, 2]))
    np.testing.assert_allclose(found, np.stack(expected), atol=1e-4)


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_a_probability_without_gradient_still_has_a_map(activation: str) -> None:
    model = finder(activation, kernel=[[1e5, 0.0], [0.0, 0.0]])
    image = with_square(4, 4)[np.newaxis]
    assert model.predict_on_batch(image[..., np.newaxis].astype(np.float32))[0, 0] == 1.0
    assert peak(GradCam(model).heatmaps(image, 0)[0]) == (4, 4)


def test_each_output_has_a_map_of_its_own() -> None:
    cam = GradCam(finder("softmax", kernel=[[4.0, -4.0, 0.0], [0.0, 0.0, 3.0]]))
    first, second, third = cam.heatmaps(np.stack([with_square(2, 3)] * 3), np.array([0, 1, 2]))
    assert peak(first) == (2, 3)
    assert not second.any()
    np.testing.assert_allclose(third, 1, rtol=1e-6)


def test_a_image_without_evidence_has_a_map_of_zeros() -> None:
    heatmap = GradCam(finder()).heatmaps(np.zeros((1, SIZE, SIZE), np.uint8), 0)
    assert not heatmap.any()


def test_a_map_whose_numbers_overflow_is_all_zeros() -> None:
    model = finder("sigmoid", kernel=[[3e38, 1.0], [0.0, 0.0]])
    model.get_layer("cells").set_weights([np.full((8, 8, 1, 2), 1e5), np.zeros(2)])
    overflown, sound = GradCam(model).heatmaps(np.stack([with_square(2, 3)] * 2), np.array([0, 1]))
    assert not overflown.any()
    assert peak(sound) == (2, 3)


def test_the_images_beside_a_image_and_the_size_of_a_batch_make_no_difference() -> None:
    images = np.stack([with_square(n % 8, 3, rng=n) for n in range(7)])
    cam, outputs = GradCam(random_model()), np.arange(7) % 3
    together = cam.heatmaps(images, outputs, batch_size=4)
    alone = np.concatenate([cam.heatmaps(images[n : n + 1], int(outputs[n]), batch_size=4) for n in range(7)])
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_allclose(cam.heatmaps(images, outputs, batch_size=3), together, atol=1e-5)


def test_the_graph_is_traced_once() -> None:
    cam, images = GradCam(random_model()), np.stack([with_square(n, 3) for n in range(5)])
    for n, batch_size in ((5, 2), (1, 2), (3, 4)):
        cam.heatmaps(images[:n], 1, batch_size)
    assert cam._explain.experimental_get_tracing_count() == 1


def test_no_image_gives_no_map() -> None:
    assert GradCam(finder()).heatmaps(np.empty((0, SIZE, SIZE), np.uint8), 0).shape == (0, SIZE, SIZE)


def test_dropout_is_off_and_the_model_stays_as_it_is() -> None:
    model, images = random_model(), with_square(1, 2)[np.newaxis]
    before = [weight.copy() for weight in model.get_weights()]
    cam = GradCam(model)
    np.testing.assert_array_equal(cam.heatmaps(images, 0), cam.heatmaps(images, 0))
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_maps_follow_the_weights_of_the_model() -> None:
    model = finder()
    cam = GradCam(model)
    model.get_layer(OUTPUT).set_weights([-np.array([[4.0], [0.0]]), np.zeros(1)])
    assert not cam.heatmaps(with_square(1, 1)[np.newaxis], 0).any()


def test_a_model_in_bfloat16_gives_nearly_the_same_maps() -> None:
    images = np.stack([with_square(n, 3, rng=n) for n in range(3)])
    exact, rounded = random_model(), random_model(dtype="mixed_bfloat16")
    rounded.set_weights(exact.get_weights())
    maps = GradCam(rounded).heatmaps(images, 1)
    assert maps.dtype == np.float32
    np.testing.assert_allclose(maps, GradCam(exact).heatmaps(images, 1), atol=0.1)


def network(name: str, size: int) -> Any:
    return build_model(
        name=name, weights_file=None, size=size, n_outputs=2, exclusive=False, head_units=0, dropout=0.2, seed=0
    )


@pytest.mark.parametrize(
    ("name", "size", "expected", "places"),
    [
        ("small_cnn", 64, "block2_conv1_relu", 16),
        ("small_cnn", 128, "block3_conv1_relu", 16),
        ("small_cnn", 224, "block4_conv1_relu", 14),
        ("densenet121", 96, "pool3_conv", 12),
        ("densenet121", 224, "pool4_conv", 14),
        ("resnet50", 96, "conv3_block4_out", 12),
        ("resnet50", 224, "conv4_block6_out", 14),
        # The layers after these two are padding, which moves the places.
        ("mobilenetv2", 96, "block_6_expand_relu", 12),
        ("mobilenetv2", 224, "block_13_expand_relu", 14),
    ],
)
def test_the_layer_is_the_deepest_with_enough_places_where_all_paths_meet(
    name: str, size: int, expected: str, places: int
) -> None:
    model = network(name, size)
    layer = model.get_layer(GradCam(model).layer)
    assert (layer.name, layer.output.shape[1:3]) == (expected, (places, places))
    assert places >= SIDE
    images = np.random.default_rng(0).integers(0, 256, (1, size, size, 1)).astype(np.float32)
    features = keras.Model(model.input, layer.output)(images, training=False)
    probability = keras.Model(layer.output, model.output)(features, training=False)
    np.testing.assert_allclose(probability, model(images, training=False), rtol=1e-4)


@pytest.mark.parametrize("size", [16, 20])
def test_a_network_of_small_maps_is_read_below_the_pooling_and_never_at_the_image(size: int) -> None:
    assert GradCam(network("small_cnn", size)).layer == "block5_conv1_relu"
    assert GradCam(finder(hidden=True)).layer == "cells"


def test_a_layer_with_exactly_enough_places_is_taken_and_one_with_fewer_is_not() -> None:
    # Five convolutions, of which the first halves the image.
    assert GradCam(network("small_cnn", 2 * SIDE)).layer == "block1_conv1_relu"
    assert GradCam(network("small_cnn", 2 * SIDE - 2)).layer == "block5_conv1_relu"


def test_a_layer_beside_which_another_path_leads_is_passed_over() -> None:
    image = keras.Input((SIZE, SIZE, 1), name="image")
    trunk = keras.layers.Conv2D(2, 4, strides=4, activation="relu", name="trunk")(image)
    branch = keras.layers.Conv2D(2, 3, padding="same", activation="relu", name="branch")(trunk)
    joined = keras.layers.MaxPooling2D(2)(keras.layers.Add(name="joined")([trunk, branch]))
    pooled = keras.layers.GlobalAveragePooling2D(name=POOLED)(joined)
    model = keras.Model(image, keras.layers.Dense(1, activation="sigmoid", name=OUTPUT)(pooled))
    assert GradCam(model).layer == "joined"
    halves = [keras.layers.MaxPooling2D(2)(features) for features in (trunk, branch)]
    pooled = keras.layers.GlobalAveragePooling2D(name=POOLED)(keras.layers.Add()(halves))
    model = keras.Model(image, keras.layers.Dense(1, activation="sigmoid", name=OUTPUT)(pooled))
    assert GradCam(model).layer == "trunk"


@pytest.mark.parametrize(
    ("images", "output", "received"),
    [
        (np.zeros((1, 32, 32), np.uint8), 0, "32"),
        (np.zeros((1, SIZE, SIZE), np.float32), 0, "float32"),
        (np.zeros((1, SIZE, SIZE), np.uint8), 1, "1"),
        (np.zeros((1, SIZE, SIZE), np.uint8), -1, "-1"),
    ],
)
def test_what_the_model_cannot_take_is_named(images: np.ndarray, output: int, received: str) -> None:
    with pytest.raises(ValueError, match=f"Received: .*{received}"):
        GradCam(finder()).heatmaps(images, output)


def test_shuffled_keeps_each_arrays_values_and_loses_their_order() -> None:
    model = random_model()
    before = [weight.copy() for weight in model.get_weights()]
    one, again, other = (Shuffled(model, seed).weights for seed in (1, 1, 2))
    assert len(one) == SHUFFLES
    for old, kept, new, same in zip(before, model.get_weights(), one[0], again[0], strict=True):
        np.testing.assert_array_equal(old, kept)
        np.testing.assert_array_equal(np.sort(old, axis=None), np.sort(new, axis=None))
        np.testing.assert_array_equal(new, same)
    kernels = [max(weights, key=np.size).tobytes() for weights in (before, *one, *other)]
    assert len(set(kernels)) == len(kernels)


def test_each_shuffled_copy_draws_its_own_maps() -> None:
    model, images = random_model(), np.random.default_rng(0).integers(0, 255, (3, SIZE, SIZE), np.uint8)
    sanity = Shuffled(model, 1)
    maps = list(sanity.heatmaps(images, np.zeros(3, int)))
    for drawn, weights in zip(maps, sanity.weights, strict=True):
        copy = keras.models.clone_model(model)
        copy.set_weights(weights)
        np.testing.assert_allclose(drawn, GradCam(copy).heatmaps(images, 0), atol=1e-6)
    assert len({drawn.tobytes() for drawn in maps}) > 1


class Images:
    """Images in memory, whose names are their numbers."""

    digest = "drawn"

    def __init__(self, images: np.ndarray) -> None:
        self.images = images
        self.most = 0

    def read(self, sha256s: Sequence[str]) -> np.ndarray:
        self.most = max(self.most, len(sha256s))
        return self.images[[int(sha256) for sha256 in sha256s]]


PLACES = [(row, column) for row in range(0, 8, 2) for column in range(1, 8, 2)]


def drawn(boxed: Sequence[int]) -> tuple[Images, pd.DataFrame, pd.DataFrame]:
    images = Images(np.stack([with_square(*place, rng=n) for n, place in enumerate(PLACES)]))
    names = [str(n) for n in range(len(PLACES))]
    explained = pd.DataFrame({"sha256": names, "class": "square", "output": 0, "group": names})
    rows = [(str(n), "square", PLACES[n][1] / 8, PLACES[n][0] / 8) for n in boxed]
    boxes = pd.DataFrame(rows, columns=["sha256", "class", "left", "top"])
    return images, explained, boxes.assign(right=boxes["left"] + 0.125, bottom=boxes["top"] + 0.125)


def test_a_model_that_has_learnt_points_into_boxes_and_a_shuffled_one_does_not() -> None:
    _, explained, boxes = drawn(range(len(PLACES)))
    stripes = np.tile([250, 0], (8, 4))
    noise = np.random.default_rng(0).choice([0, 250], (len(PLACES), SIZE, SIZE)).astype(np.uint8)
    for image, (row, column) in zip(noise, PLACES, strict=True):
        image[8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = stripes
    found = explain_images(finder_of(stripes), Images(noise), explained, boxes, **BOOTSTRAP)
    square = found["localisation"]["square"]
    assert (found["method"], found["layer"]) == (METHOD, "cells")
    assert (square["n_images"], square["n_boxes"]) == (16, 16)
    assert square["pointing_game"]["value"] == 1
    assert square["heat_in_box"]["value"] > 4 * square["box_area"]["value"]
    assert square["pointing_game_centred"]["value"] < 0.5
    assert found["randomised"]["n_images"] == 16
    assert found["randomised"]["pointing_game"]["value"] < 0.2
    assert abs(found["randomised"]["rank_correlation"]["value"]) < 0.2


def finder_of(pattern: np.ndarray) -> Any:
    """Looks for cells of one pattern; shuffled, it looks for cells of noise."""
    image = keras.Input((SIZE, SIZE, 1), name="image")
    features = keras.layers.Conv2D(1, 8, strides=8, activation="relu", name="cells")(image)
    pooled = keras.layers.GlobalAveragePooling2D(name=POOLED)(features)
    model = keras.Model(image, keras.layers.Dense(1, activation="sigmoid", name=OUTPUT)(pooled))
    model.get_layer("cells").set_weights([np.sign(pattern - pattern.mean())[..., np.newaxis, np.newaxis], np.zeros(1)])
    model.get_layer(OUTPUT).set_weights([np.ones((1, 1)), np.zeros(1)])
    return model


def test_images_without_boxes_count_for_the_check_alone() -> None:
    images, explained, boxes = drawn([1, 4, 5])
    found = explain_images(finder(), images, explained, boxes, **BOOTSTRAP)
    assert found["localisation"]["square"]["n_images"] == 3
    assert found["localisation"]["square"]["pointing_game"]["value"] == 1
    assert found["randomised"]["n_images"] == 16
    none = explain_images(finder(), images, explained, boxes[:0], **BOOTSTRAP)
    assert none["localisation"] == {}
    assert none["randomised"]["pointing_game"] is None
    assert none["randomised"]["rank_correlation"] == found["randomised"]["rank_correlation"]


def test_what_is_measured_stays_with_its_image() -> None:
    images, explained, boxes = drawn([9])
    explained["class"] = ["other"] * 9 + ["square"] * 7
    explained["group"] = [*"aaaaaaaaa", *"bcdefgh"]
    found = explain_images(finder(), images, explained, boxes, **BOOTSTRAP)
    assert list(found["localisation"]) == ["square"]
    assert found["localisation"]["square"]["n_images"] == 1


def test_a_map_is_that_of_the_output_of_the_class_and_measured_on_its_boxes() -> None:
    images, explained, boxes = drawn([2])
    both = pd.concat([explained[2:3], explained[2:3].assign(**{"class": "dark", "output": 1})])
    boxes = pd.concat([boxes, boxes.assign(**{"class": "dark"})])
    model = finder("sigmoid", kernel=[[4.0, -4.0], [0.0, 0.0]])
    found = explain_images(model, images, both, boxes, **BOOTSTRAP)["localisation"]
    assert list(found) == ["square", "dark"]
    assert found["square"]["pointing_game"]["value"] == 1
    assert found["dark"]["pointing_game"]["value"] == 0


def test_nothing_to_explain_gives_an_empty_document() -> None:
    images, explained, boxes = drawn([])
    found = explain_images(finder(), images, explained[:0], boxes, **BOOTSTRAP)
    assert found["localisation"] == {}
    assert found["randomised"] == {
        "n_images": 0,
        "n_shuffles": SHUFFLES,
        "rank_correlation": None,
        "pointing_game": None,
    }


def test_images_are_read_a_few_at_a_time_and_the_order_of_chunks_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images, explained, boxes = drawn(range(len(PLACES)))
    whole = explain_images(finder(), images, explained, boxes, **BOOTSTRAP)
    assert images.most == 16
    images.most = 0
    monkeypatch.setattr("cxr_pipeline.evaluation.grad_cam._CHUNK", 5)
    assert explain_images(finder(), images, explained, boxes, **BOOTSTRAP) == whole
    assert images.most == 5
