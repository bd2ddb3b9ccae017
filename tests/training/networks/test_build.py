from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.training.networks.build import build_model

SIZE = 32


def build(name: str = "small_cnn", weights_file: Path | None = None, size: int = SIZE, **changes: Any) -> Any:
    return build_model(
        **{"name": name, "weights_file": weights_file, "size": size, "n_outputs": 1, "exclusive": False}
        | {"head_units": 8, "dropout": 0.3, "seed": 1}
        | changes
    )


def random_images(n: int = 2, size: int = SIZE) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, size, size, 1), dtype=np.uint8)


@pytest.mark.parametrize("name", ["small_cnn", "cnn"])
@pytest.mark.parametrize("size", [28, 64])
def test_a_network_takes_images_as_they_are_stored(name: str, size: int) -> None:
    model = build(name, size=size)
    probability = model.predict_on_batch(random_images(3, size))
    assert model.input.name == "image"
    assert probability.shape == (3, 1)
    assert probability.dtype == np.float32
    assert ((probability > 0) & (probability < 1)).all()


def test_cnn_is_as_small_as_promised() -> None:
    assert build("cnn", size=224, head_units=128).count_params() <= 3_720_000


@pytest.mark.parametrize("name", ["small_cnn", "cnn"])
def test_exposure_and_contrast_of_a_image_do_not_matter(name: str) -> None:
    model = build(name)
    image = random_images().astype(np.float32)
    np.testing.assert_allclose(model(image * 0.4 + 60), model(image), atol=1e-3)


@pytest.mark.parametrize("exclusive", [False, True])
def test_a_saved_model_needs_none_of_our_code(exclusive: bool, tmp_path: Path) -> None:
    model = build(n_outputs=3, exclusive=exclusive)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    assert {layer.__class__.__module__.split(".")[0] for layer in loaded.layers} == {"keras"}
    assert not any(isinstance(layer, (keras.Model, keras.layers.Lambda)) for layer in loaded.layers)
    np.testing.assert_array_equal(loaded(random_images()), model(random_images()))


def test_the_seed_decides_the_weights() -> None:
    first, again, other = (build(seed=seed).get_weights() for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_the_head_is_as_configured() -> None:
    assert [layer.name for layer in build(head_units=5).layers][-4:] == ["pooled", "dropout", "hidden", "probability"]
    assert build(head_units=5).get_layer("hidden").units == 5
    assert [layer.name for layer in build(head_units=0).layers][-3:] == ["pooled", "dropout", "probability"]
    assert build(dropout=0.45).get_layer("dropout").rate == 0.45


@pytest.mark.parametrize("n_outputs", [1, 2, 14])
def test_independent_outputs_have_a_sigmoid_each(n_outputs: int) -> None:
    probability = build(n_outputs=n_outputs).predict_on_batch(random_images(5))
    assert probability.shape == (5, n_outputs)
    assert n_outputs == 1 or not np.allclose(probability.sum(axis=1), 1, atol=1e-3)


def test_exclusive_outputs_share_a_probability_of_one() -> None:
    probability = build(n_outputs=4, exclusive=True).predict_on_batch(random_images(5))
    assert probability.shape == (5, 4)
    assert probability.dtype == np.float32
    np.testing.assert_allclose(probability.sum(axis=1), 1, rtol=1e-5)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    build("cnn").save_weights(tmp_path / "cnn.weights.h5")
    message = r"cnn\.weights\.h5 does not hold the weights of mobilenetv2 without its top .*Conv1.*shape"
    with pytest.raises(UserError, match=message):
        build("mobilenetv2", tmp_path / "cnn.weights.h5")


def test_weights_for_a_network_that_takes_none_are_refused(tmp_path: Path) -> None:
    weights_file = tmp_path / "own.weights.h5"
    with pytest.raises(UserError, match=r"small_cnn takes no pretrained weights: set model\.weights to none"):
        build("small_cnn", weights_file)


def test_an_unknown_network_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Received: name='vgg'"):
        build("vgg")
