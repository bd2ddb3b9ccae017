import math

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_pipeline.models.build import build_model
from cxr_pipeline.training.epochs import computing_in_bfloat16, validation_metrics


def test_metrics_of_an_epoch() -> None:
    found = validation_metrics(np.array([1, 1, 1, 0, 0], np.float32), np.array([0.9, 0.5, 0.2, 0.6, 0.1], np.float32))
    assert found == pytest.approx(
        {
            "val_auc": 4 / 6,
            "val_average_precision": (1 + 2 / 3 + 3 / 4) / 3,
            "val_accuracy": 3 / 5,
            "val_recall": 2 / 3,
            "val_specificity": 1 / 2,
        }
    )


@settings(deadline=None)
@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=9), st.booleans())
def test_metrics_of_one_class_are_not_numbers_but_no_error(scores: list[float], positive: bool) -> None:
    found = validation_metrics(np.full(len(scores), positive, np.float32), np.array(scores, np.float32))
    assert math.isnan(found["val_auc"])
    assert math.isnan(found["val_specificity" if positive else "val_recall"])
    assert 0 <= found["val_accuracy"] <= 1


def test_bfloat16_lasts_as_long_as_asked() -> None:
    model = build_model(name="small_cnn", weights_file=None, size=32, head_units=4, dropout=0, seed=0)
    network = keras.Sequential([model])
    film = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 1)).astype(np.float32)
    before = np.asarray(network(film))
    with computing_in_bfloat16(network, enabled=True):
        inside = network(film)
        assert model.get_layer("block1_conv1").compute_dtype == "bfloat16"
        assert model.get_layer("block1_conv1").kernel.dtype == "float32"
        assert model.get_layer("film_standardisation").compute_dtype == "float32"
        assert keras.backend.standardize_dtype(inside.dtype) == "float32"
        assert not np.array_equal(inside, before)
        np.testing.assert_allclose(inside, before, atol=0.05)
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}
    assert keras.config.dtype_policy().name == "float32"
    np.testing.assert_array_equal(network(film), before)
    with computing_in_bfloat16(network, enabled=False):
        assert {layer.compute_dtype for layer in model.layers} == {"float32"}
