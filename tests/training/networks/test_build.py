import keras
import numpy as np
import pytest

from cxr_pipeline.training.networks.build import build_model

SIZE = 32


def build(name="small_cnn", weights_file=None, **changes):
    settings = {"size": SIZE, "head_units": 8, "dropout": 0.3, "seed": 1, **changes}
    return build_model(name=name, weights_file=weights_file, **settings)


def random_images(n=2, size=SIZE):
    return np.random.default_rng(0).integers(0, 256, (n, size, size, 1), dtype=np.uint8)


@pytest.mark.parametrize("name", ["small_cnn", "cnn"])
def test_outputs_do_not_depend_on_exposure_and_contrast(name):
    model = build(name)
    image = random_images().astype(np.float32)
    np.testing.assert_allclose(model(image * 0.4 + 60), model(image), atol=1e-3)


@pytest.mark.parametrize("exclusive", [False, True])
def test_a_saved_model_needs_no_custom_code(exclusive, tmp_path):
    model = build(n_outputs=3, exclusive=exclusive)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    assert {layer.__class__.__module__.split(".")[0] for layer in loaded.layers} == {"keras"}
    assert not any(isinstance(layer, (keras.Model, keras.layers.Lambda)) for layer in loaded.layers)
    np.testing.assert_array_equal(loaded(random_images()), model(random_images()))
    assert np.allclose(np.sum(loaded(random_images()), axis=1), 1, rtol=1e-5) is exclusive
