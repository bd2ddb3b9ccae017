"""Phantoms, a small network that was never trained, and what it sees in them."""

from collections.abc import Callable

import keras
import numpy as np
import pytest

from cxr_pipeline.data.phantoms import draw_patient
from cxr_pipeline.deployment.drift.feature_extraction import observe
from cxr_pipeline.deployment.drift.film_features import Observed
from cxr_pipeline.evaluation.decision_rule import DecisionRule, fit_decision_rule
from cxr_pipeline.training.networks.heads import OUTPUT, POOLED

SIZE, N_PATIENTS = 48, 480
Films = np.ndarray


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
    film = keras.Input((SIZE, SIZE, 1))
    drawn = keras.initializers.RandomNormal(0, 0.02, seed=3)
    seen = keras.layers.Conv2D(24, 5, strides=3, activation="relu", kernel_initializer=drawn)(film)
    pooled = keras.layers.GlobalAveragePooling2D(name=POOLED)(seen)
    weights = keras.initializers.RandomNormal(0, 0.3, seed=4)
    return keras.Model(film, keras.layers.Dense(1, "sigmoid", name=OUTPUT, kernel_initializer=weights)(pooled))


@pytest.fixture(scope="session")
def films() -> Films:
    """The first film of each of many patients, of one generator."""
    drawn = (next(draw_patient(k, size=SIZE, prevalence={"Effusion": 0.45}, seed=5)) for k in range(1, N_PATIENTS + 1))
    return np.stack([film.pixels for film in drawn])


@pytest.fixture(scope="session")
def look(network: keras.Model, rule: DecisionRule) -> Callable[[Films], Observed]:
    def look(films: Films) -> Observed:
        return observe(network, rule, (films[start : start + 64] for start in range(0, len(films), 64)))

    return look


@pytest.fixture(scope="session")
def seen(look: Callable[[Films], Observed], films: Films) -> Observed:
    return look(films)


@pytest.fixture(scope="session")
def some() -> Callable[..., Observed]:
    """Take some of the films of an ``Observed``."""

    def some(of: Observed, places: np.ndarray | slice) -> Observed:
        return Observed(*(value[places] for value in vars(of).values()))

    return some


@pytest.fixture(scope="session")
def both() -> Callable[..., Observed]:
    """Put the films of two ``Observed`` together."""

    def both(one: Observed, other: Observed) -> Observed:
        sides = zip(vars(one).values(), vars(other).values(), strict=True)
        return Observed(*(np.concatenate(values) for values in sides))

    return both


@pytest.fixture(scope="session")
def made_up() -> Callable[..., Observed]:
    """Films of which everything is drawn from plain distributions, honest probabilities among it."""

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
