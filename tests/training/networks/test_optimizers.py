import keras
import numpy as np
import pytest

from cxr_pipeline.training.networks.optimizers import build_optimizer


def build(name="adamw", **changes):
    settings = {"learning_rate": 0.1, "schedule": "constant", "weight_decay": 0.0, "total_steps": 10}
    return build_optimizer(name, **settings | changes)


def variable(name):
    return keras.Variable(np.ones(1, np.float32), name=name)


@pytest.mark.parametrize("name", ["Adam", "AdamW", "Adamax", "SGD", "RMSprop"])
def test_each_optimizer_descends(name):
    optimizer, weight = build(name.lower()), variable("kernel")
    optimizer.apply([np.array([2.0], np.float32)], [weight])
    assert type(optimizer).__name__ == name
    assert float(weight.numpy()[0]) < 1.0


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_weight_decay_excludes_biases_and_batch_normalisation(name):
    optimizer = build(name, weight_decay=0.5)
    weights = [variable(name) for name in ("kernel", "bias", "gamma", "beta")]
    optimizer.apply([np.zeros(1, np.float32)] * 4, weights)
    np.testing.assert_allclose([float(weight.numpy()[0]) for weight in weights], [0.95, 1, 1, 1], rtol=1e-6)


def test_a_cosine_schedule_falls_to_zero():
    optimizer, weight, rates = build(schedule="cosine"), variable("kernel"), []
    for _ in range(10):
        rates.append(float(optimizer.learning_rate))
        optimizer.apply([np.zeros(1, np.float32)], [weight])
    np.testing.assert_allclose(rates, [0.05 * (1 + np.cos(np.pi * step / 10)) for step in range(10)], rtol=1e-5)
    assert float(optimizer.learning_rate) == pytest.approx(0, abs=1e-8)
