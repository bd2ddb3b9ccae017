from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

from cxr_pipeline.errors import UserError
from cxr_pipeline.models.backbones import load_densenet121
from cxr_pipeline.models.build import build_model

SIZE = 32


def build(name: str = "small_cnn", weights_file: Path | None = None, size: int = SIZE, **changes: Any) -> Any:
    return build_model(
        **{"name": name, "weights_file": weights_file, "size": size, "head_units": 8, "dropout": 0.3, "seed": 1}
        | changes
    )


def random_films(n: int = 2, size: int = SIZE) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, size, size, 1), dtype=np.uint8)


@pytest.fixture(scope="module")
def densenet() -> Any:
    """A DenseNet-121 without its top, with weights that no seed of ours gives, batch normalisation included."""
    keras.utils.set_random_seed(7)
    backbone = keras.applications.DenseNet121(include_top=False, weights=None, input_shape=(SIZE, SIZE, 3))
    rng = np.random.default_rng(7)
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    return backbone


@pytest.fixture(scope="module")
def weights_file(densenet: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "densenet.weights.h5"
    densenet.save_weights(path)
    return path


@pytest.fixture(scope="module")
def pretrained(weights_file: Path) -> Any:
    return build("densenet121", weights_file)


@pytest.mark.parametrize("name", ["small_cnn", "cnn"])
@pytest.mark.parametrize("size", [28, 64])
def test_a_network_takes_films_as_they_are_stored(name: str, size: int) -> None:
    model = build(name, size=size)
    probability = model.predict_on_batch(random_films(3, size))
    assert model.input.name == "film"
    assert probability.shape == (3, 1)
    assert probability.dtype == np.float32
    assert ((probability > 0) & (probability < 1)).all()


def test_cnn_is_as_small_as_promised() -> None:
    assert build("cnn", size=224, head_units=128).count_params() <= 3_720_000


@pytest.mark.parametrize("name", ["small_cnn", "cnn"])
def test_exposure_and_contrast_of_a_film_do_not_matter(name: str) -> None:
    model = build(name)
    film = random_films().astype(np.float32)
    np.testing.assert_allclose(model(film * 0.4 + 60), model(film), atol=1e-3)


@pytest.mark.parametrize("name", ["small_cnn", "densenet121"])
def test_a_saved_model_needs_none_of_our_code(name: str, pretrained: Any, tmp_path: Path) -> None:
    model = pretrained if name == "densenet121" else build()
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    assert {layer.__class__.__module__.split(".")[0] for layer in loaded.layers} == {"keras"}
    assert not any(isinstance(layer, (keras.Model, keras.layers.Lambda)) for layer in loaded.layers)
    np.testing.assert_array_equal(loaded(random_films()), model(random_films()))


def test_the_seed_decides_the_weights() -> None:
    first, again, other = (build(seed=seed).get_weights() for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_the_head_is_as_configured() -> None:
    assert [layer.name for layer in build(head_units=5).layers][-4:] == ["pooled", "dropout", "hidden", "probability"]
    assert build(head_units=5).get_layer("hidden").units == 5
    assert [layer.name for layer in build(head_units=0).layers][-3:] == ["pooled", "dropout", "probability"]
    assert build(dropout=0.45).get_layer("dropout").rate == 0.45


def test_a_pretrained_backbone_sees_films_as_keras_prepares_them(densenet: Any, pretrained: Any) -> None:
    films = random_films().astype(np.float32)
    rgb = keras.applications.densenet.preprocess_input(np.repeat(films, 3, axis=-1))
    expected = densenet(rgb, training=False)
    found = keras.Model(pretrained.input, pretrained.get_layer("relu").output)(films)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_a_pretrained_backbone_is_frozen_with_its_batch_normalisation(pretrained: Any) -> None:
    trainable = [variable.path for variable in pretrained.trainable_variables]
    assert trainable == ["hidden/kernel", "hidden/bias", "probability/kernel", "probability/bias"]
    backbone = keras.Model(pretrained.input, pretrained.get_layer("pooled").output)
    films = random_films().astype(np.float32)
    np.testing.assert_array_equal(backbone(films, training=True), backbone(films, training=False))


def test_weights_in_the_older_format_load_too(densenet: Any, pretrained: Any, tmp_path: Path) -> None:
    from keras.src.legacy.saving import legacy_h5_format

    with h5py.File(tmp_path / "notop.h5", "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, densenet)
    for name in ("conv1_conv", "bn"):
        layer = pretrained.get_layer(name)
        layer.set_weights([np.zeros_like(value) for value in layer.get_weights()])
    load_densenet121(pretrained, tmp_path / "notop.h5")
    for name in ("conv1_conv", "bn"):
        loaded, expected = pretrained.get_layer(name).get_weights(), densenet.get_layer(name).get_weights()
        assert all(np.array_equal(a, b) for a, b in zip(loaded, expected, strict=True))


def test_without_weights_a_backbone_is_trained_whole() -> None:
    model = build("densenet121")
    assert all(layer.trainable for layer in model.layers)


@pytest.mark.parametrize("name", ["small.weights.h5", "text.weights.h5"])
def test_weights_of_another_network_are_refused(name: str, pretrained: Any, tmp_path: Path) -> None:
    build().save_weights(tmp_path / "small.weights.h5")
    (tmp_path / "text.weights.h5").write_text("no weights")
    with pytest.raises(UserError, match=rf"model\.weights: .*{name} does not hold the weights of densenet121"):
        load_densenet121(pretrained, tmp_path / name)


def test_weights_for_a_network_that_takes_none_are_refused(weights_file: Path) -> None:
    with pytest.raises(UserError, match=r"small_cnn takes no pretrained weights: set model\.weights to none"):
        build("small_cnn", weights_file)


def test_films_too_small_for_the_backbone_are_refused() -> None:
    with pytest.raises(UserError, match=r"at least 32 pixels a side, resolution\.size is 28"):
        build("densenet121", size=28)


def test_an_unknown_network_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Received: name='vgg'"):
        build("vgg")
