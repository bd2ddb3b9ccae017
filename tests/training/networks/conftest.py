"""Backbones as Keras builds them, and files of their weights."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from cxr_pipeline.training.networks.backbones import BACKBONES

APPLICATIONS = {
    "densenet121": (keras.applications.DenseNet121, keras.applications.densenet),
    "vgg16": (keras.applications.VGG16, keras.applications.vgg16),
    "resnet50": (keras.applications.ResNet50, keras.applications.resnet),
    "inceptionv3": (keras.applications.InceptionV3, keras.applications.inception_v3),
    "mobilenetv2": (keras.applications.MobileNetV2, keras.applications.mobilenet_v2),
    "efficientnetv2b0": (keras.applications.EfficientNetV2B0, keras.applications.efficientnet_v2),
}


@pytest.fixture(scope="session")
def as_keras_prepares() -> Callable[[str, np.ndarray], np.ndarray]:
    """From a name and grey images [n, S, S, 1] to what Keras feeds that backbone."""

    def prepare(name: str, images: np.ndarray) -> np.ndarray:
        return APPLICATIONS[name][1].preprocess_input(np.repeat(images, 3, axis=-1))

    return prepare


@pytest.fixture(scope="session")
def application(as_keras_prepares: Callable[[str, np.ndarray], np.ndarray]) -> Callable[[str], Any]:
    """From a name to Keras' backbone for images of its smallest size, with weights that no seed of ours gives.

    Its batch normalisation knows images of noise, so that what it sees differs from one to the other.
    """

    @cache
    def build(name: str) -> Any:
        keras.utils.set_random_seed(7)
        size = BACKBONES[name].smallest
        network = APPLICATIONS[name][0](include_top=False, weights=None, input_shape=(size, size, 3))
        normalising = [layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)]
        for layer in normalising:
            layer.momentum = 0.1
        noise = np.random.default_rng(7).integers(0, 256, (8, size, size, 1)).astype(np.float32)
        network(as_keras_prepares(name, noise), training=True)
        return network

    return build


@pytest.fixture(scope="session")
def saved(application: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """From a name to a file with the weights of that backbone."""
    folder = tmp_path_factory.mktemp("backbones")

    @cache
    def save(name: str) -> Path:
        path = folder / f"{name}.weights.h5"
        application(name).save_weights(path)
        return path

    return save
