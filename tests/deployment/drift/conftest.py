"""Phantoms, a small network that was never trained, and what it sees in them."""

from collections.abc import Callable

import keras
import numpy as np
import pytest

from cxr_pipeline.data.phantoms import draw_patient
from cxr_pipeline.deployment.drift.feature_extraction import observe
from cxr_pipeline.deployment.drift.image_features import Observed
from cxr_pipeline.evaluation.decision_rule import DecisionRule, fit_decision_rule
from cxr_pipeline.training.networks.heads import OUTPUT, POOLED

SIZE, N_PATIENTS = 48, 480
Images = np.ndarray


@pytest.fixture(scope="session")
def rule() -> DecisionRule:
    labels = np.array([[0.0], [1.0]])
    return fit_decision_rule(
        labels,
        labels,
        kind="binary",
        classes=("well", "ill"),
        calibration="none",
        policy={"rule": "fixed", "value": 0.5},
    )


@pytest.fixture(scope="session")
def network() -> keras.Model:
    image = keras.Input((SIZE, SIZE, 1))
    drawn = keras.initializers.RandomNormal(0, 0.02, seed=3)
    seen = keras.layers.Conv2D(24, 5, strides=3, activation="relu", kernel_initializer=drawn)(image)
    pooled = keras.layers.GlobalAveragePooling2D(name=POOLED)(seen)
    weights = keras.initializers.RandomNormal(0, 0.3, seed=4)
    return keras.Model(image, keras.layers.Dense(1, "sigmoid", name=OUTPUT, kernel_initializer=weights)(pooled))


@pytest.fixture(scope="session")
def images() -> Images:
    """The first image of each of many patients, of one generator."""
    drawn = (next(draw_patient(k, size=SIZE, prevalence={"Effusion": 0.45}, seed=5)) for k in range(1, N_PATIENTS + 1))
    return np.stack([image.pixels for image in drawn])


@pytest.fixture(scope="session")
def look(network: keras.Model, rule: DecisionRule) -> Callable[[Images], Observed]:
    def look(images: Images) -> Observed:
        return observe(network, rule, (images[start : start + 64] for start in range(0, len(images), 64)))

    return look


@pytest.fixture(scope="session")
def seen(look: Callable[[Images], Observed], images: Images) -> Observed:
    return look(images)


@pytest.fixture(scope="session")
def some() -> Callable[..., Observed]:
    """Take some of the images of an ``Observed``."""

    def some(of: Observed, places: np.ndarray | slice) -> Observed:
        return Observed(*(value[places] for value in vars(of).values()))

    return some


@pytest.fixture(scope="session")
def both() -> Callable[..., Observed]:
    """Put the images of two ``Observed`` together."""

    def both(one: Observed, other: Observed) -> Observed:
        sides = zip(vars(one).values(), vars(other).values(), strict=True)
        return Observed(*(np.concatenate(values) for values in sides))

    return both


@pytest.fixture(scope="session")
def made_up() -> Callable[..., Observed]:
    """Images of which everything is drawn from plain distributions, honest probabilities among it."""

    def made_up(n: int, seed: int, *, k: int = 1, d: int = 6, source: str = "") -> Observed:
        rng = np.random.default_rng(seed)
        probability = rng.beta(1, 1, (n, k))
        return Observed(
            rng.normal(100, 10, (n, 11)).astype(np.float32),
            rng.normal(0, 1, (n, d)).astype(np.float32),
            probability,
            (rng.random((n, k)) < probability).astype(float),
            np.full(n, source),
        )

    return made_up
