"""Phantoms, a small untrained network, and the features that it extracts from them."""

import keras
import numpy as np
import pytest
from shipped import parameters_of
from stub_models import fixed_rule, grey_network

from cxr_pipeline.data.images.recipe import Recipe
from cxr_pipeline.data.phantoms import draw_patient
from cxr_pipeline.deployment.classifier import ImageClassifier
from cxr_pipeline.deployment.drift.image_features import extract_features
from cxr_pipeline.training.networks.build import OUTPUT, POOLED

SIZE, N_PATIENTS = 48, 480
Images = np.ndarray


@pytest.fixture(scope="session")
def settings():
    """Settings of `detect_drift`."""
    drift = parameters_of()["drift"]
    return {**{name: drift[name] for name in ("alpha", "min_images", "limits")}, "seed": 0}


@pytest.fixture(scope="session")
def rule():
    return fixed_rule(("well", "ill"))


@pytest.fixture(scope="session")
def network():
    image = keras.Input((SIZE, SIZE, 1))
    kernel = keras.initializers.RandomNormal(0, 0.02, seed=3)
    convolved = keras.layers.Conv2D(24, 5, strides=3, activation="relu", kernel_initializer=kernel)(image)
    pooled = keras.layers.GlobalAveragePooling2D(name=POOLED)(convolved)
    weights = keras.initializers.RandomNormal(0, 0.3, seed=4)
    return keras.Model(image, keras.layers.Dense(1, "sigmoid", name=OUTPUT, kernel_initializer=weights)(pooled))


@pytest.fixture(scope="session")
def images():
    """The first image of each patient."""
    drawn = (next(draw_patient(k, size=SIZE, prevalence={"Effusion": 0.45}, seed=5)) for k in range(1, N_PATIENTS + 1))
    return np.stack([image.pixels for image in drawn])


@pytest.fixture(scope="session")
def extract(network, rule):
    def extract(images):
        return extract_features(network, rule, (images[start : start + 64] for start in range(0, len(images), 64)))

    return extract


@pytest.fixture(scope="session")
def phantoms(extract, images):
    return extract(images)


@pytest.fixture(scope="session")
def classifier():
    """A classifier whose score is the mean grey of the image, as a fraction of white."""
    recipe = Recipe(size=16, mode="stretch", max_megapixels=1.0)
    return ImageClassifier(grey_network(16), recipe, fixed_rule(), {"task": "effusion", "images": "real"})
