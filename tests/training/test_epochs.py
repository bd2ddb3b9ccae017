import math

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_pipeline.training.epochs import computing_in_bfloat16
from cxr_pipeline.training.networks.build import build_model
from cxr_pipeline.training.validation_metrics import validation_metrics

LABELS = np.array([[1], [1], [1], [0], [0]], np.float32)
SCORES = np.array([[0.9], [0.5], [0.2], [0.6], [0.1]], np.float32)


def test_metrics_of_an_epoch() -> None:
    found = validation_metrics(LABELS, SCORES, exclusive=False)
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
    y_score = np.array(scores, np.float32)[:, np.newaxis]
    found = validation_metrics(np.full_like(y_score, positive), y_score, exclusive=False)
    assert math.isnan(found["val_auc"])
    assert math.isnan(found["val_specificity" if positive else "val_recall"])
    assert 0 <= found["val_accuracy"] <= 1


def test_metrics_of_several_outputs_are_means_over_those_that_have_them() -> None:
    rng = np.random.default_rng(0)
    y_true, y_score = rng.integers(0, 2, (40, 4)).astype(np.float32), rng.random((40, 4), np.float32)
    y_true[rng.random((40, 4)) < 0.3] = np.nan
    y_true[:, 2] = 0
    y_true[:, 3] = np.nan
    alone = [
        validation_metrics(y_true[known, place][:, None], y_score[known, place][:, None], exclusive=False)
        for place, known in enumerate(~np.isnan(y_true[:, :3].T))
    ]
    found = validation_metrics(y_true, y_score, exclusive=False)
    for name, value in found.items():
        both = [row[name] for row in alone[:2]]
        expected = [*both, alone[2][name]] if name in ("val_accuracy", "val_specificity") else both
        assert value == pytest.approx(np.mean(expected))


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10**6), st.integers(2, 5))
def test_of_exclusive_outputs_the_highest_is_called(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    right, y_score = rng.integers(0, k, 12), rng.dirichlet(np.ones(k), 12).astype(np.float32)
    found = validation_metrics(np.eye(k, dtype=np.float32)[right], y_score, exclusive=True)
    called = y_score.argmax(axis=1)
    assert found["val_accuracy"] == pytest.approx(np.mean(called == right))
    recalls = [np.mean(called[right == place] == place) for place in np.unique(right)]
    assert found["val_recall"] == pytest.approx(np.mean(recalls))


def test_the_order_of_outputs_does_not_matter_to_their_metrics() -> None:
    rng = np.random.default_rng(1)
    y_true, y_score = rng.integers(0, 2, (30, 3)).astype(np.float32), rng.random((30, 3), np.float32)
    found, permuted = (
        validation_metrics(y_true[:, order], y_score[:, order], exclusive=False) for order in ([0, 1, 2], [2, 0, 1])
    )
    assert found == pytest.approx(permuted)


def test_bfloat16_lasts_as_long_as_asked() -> None:
    model = build_model(
        name="small_cnn",
        weights_file=None,
        size=32,
        n_outputs=2,
        exclusive=True,
        head_units=4,
        dropout=0,
        seed=0,
    )
    network = keras.Sequential([model])
    image = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 1)).astype(np.float32)
    before = np.asarray(network(image))
    with computing_in_bfloat16(network, enabled=True):
        inside = network(image)
        assert model.get_layer("block1_conv1").compute_dtype == "bfloat16"
        assert model.get_layer("block1_conv1").kernel.dtype == "float32"
        assert model.get_layer("image_standardisation").compute_dtype == "float32"
        assert keras.backend.standardize_dtype(inside.dtype) == "float32"
        assert not np.array_equal(inside, before)
        np.testing.assert_allclose(inside, before, atol=0.05)
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}
    assert keras.config.dtype_policy().name == "float32"
    np.testing.assert_array_equal(network(image), before)
    with computing_in_bfloat16(network, enabled=False):
        assert {layer.compute_dtype for layer in model.layers} == {"float32"}
