from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.training.networks.backbones import BACKBONES
from cxr_pipeline.training.networks.build import FLOAT32_LAYERS, build_model
from cxr_pipeline.training.networks.heads import POOLED

EACH = pytest.mark.parametrize("name", BACKBONES)


def build(name: str, weights_file: Path | None, size: int | None = None) -> Any:
    return build_model(
        name=name,
        weights_file=weights_file,
        size=size or BACKBONES[name].smallest,
        n_outputs=2,
        exclusive=False,
        head_units=0,
        dropout=0.0,
        seed=1,
    )


@pytest.fixture(scope="module")
def pretrained(saved: Callable[[str], Path]) -> Callable[[str], Any]:
    """From a name to a model on that backbone with its weights."""
    return cache(lambda name: build(name, saved(name)))


def random_images(name: str) -> np.ndarray:
    size = BACKBONES[name].smallest
    return np.random.default_rng(0).integers(0, 256, (3, size, size, 1)).astype(np.float32)


@EACH
def test_a_pretrained_backbone_sees_images_as_keras_prepares_them(
    name: str,
    application: Callable[[str], Any],
    as_keras_prepares: Callable[[str, np.ndarray], np.ndarray],
    pretrained: Callable[[str], Any],
) -> None:
    model, images = pretrained(name), random_images(name)
    network, prepared = application(name), as_keras_prepares(name, images.copy())
    fed, expected_fed = _fed(model, images), _fed(network, prepared)
    assert np.ptp(expected_fed) > 1
    np.testing.assert_allclose(fed, expected_fed, rtol=1e-4, atol=1e-4)
    expected = network(prepared, training=False).numpy()
    found = keras.Model(model.input, model.get_layer(POOLED).input)(images)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


def _fed(network: Any, images: np.ndarray) -> np.ndarray:
    """What the first layer with weights is fed."""
    first = next(layer for layer in network.layers if layer.weights)
    return keras.Model(network.input, first.input)(images).numpy()


@EACH
def test_a_pretrained_backbone_is_frozen_and_flat(name: str, pretrained: Callable[[str], Any]) -> None:
    model = pretrained(name)
    assert [variable.path for variable in model.trainable_variables] == ["probability/kernel", "probability/bias"]
    assert not any(isinstance(layer, (keras.Model, keras.layers.Lambda)) for layer in model.layers)
    assert len({layer.name for layer in model.layers}) == len(model.layers)
    kept_in_float32 = model.layers[: model.layers.index(model.get_layer("imagenet_normalisation")) + 1]
    assert {layer.name for layer in kept_in_float32} <= set(FLOAT32_LAYERS)


@EACH
def test_batch_normalisation_is_frozen_too(name: str, pretrained: Callable[[str], Any]) -> None:
    model = pretrained(name)
    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for layer in layers[:: max(1, len(layers) // 4)]:
        values = np.random.default_rng(0).normal(size=(2, 3, 3, layer.input.shape[-1])).astype(np.float32)
        before = layer.get_weights()
        np.testing.assert_array_equal(layer(values, training=True), layer(values, training=False))
        assert all(np.array_equal(a, b) for a, b in zip(before, layer.get_weights(), strict=True))


@EACH
def test_the_whole_graph_passes_at_the_cut_of_a_backbone(name: str, pretrained: Callable[[str], Any]) -> None:
    model, images = pretrained(name), random_images(name)
    cut = model.get_layer(BACKBONES[name].cut).output
    whole = keras.Model(cut, model.output)(keras.Model(model.input, cut)(images))
    np.testing.assert_allclose(whole, model(images), rtol=1e-4, atol=1e-5)


@EACH
def test_images_one_pixel_too_small_are_refused(name: str) -> None:
    size = BACKBONES[name].smallest - 1
    with pytest.raises(UserError, match=rf"{name} needs images of at least {size + 1} .*resolution\.size is {size}"):
        build(name, None, size)


def test_without_weights_a_backbone_is_trained_whole() -> None:
    assert all(layer.trainable for layer in build("mobilenetv2", None).layers)


def test_layers_have_the_same_names_however_many_networks_were_built_before(pretrained: Callable[[str], Any]) -> None:
    first, second = pretrained("inceptionv3"), build("inceptionv3", None)
    assert [layer.name for layer in first.layers] == [layer.name for layer in second.layers]
    assert "conv2d_93" in {layer.name for layer in first.layers}


def test_a_saved_model_needs_none_of_our_code(pretrained: Callable[[str], Any], tmp_path: Path) -> None:
    model, images = pretrained("inceptionv3"), random_images("inceptionv3")
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    assert {layer.__class__.__module__.split(".")[0] for layer in loaded.layers} == {"keras"}
    np.testing.assert_array_equal(loaded(images), model(images))
