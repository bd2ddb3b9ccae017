"""Every backbone compared with the Keras application of the same name."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import keras
import numpy as np
import pytest

from cxr_pipeline.training.networks.build import FLOAT32_LAYERS, POOLED, build_model
from cxr_pipeline.training.networks.weights import SMALLEST_SIZES

APPLICATIONS = {
    "densenet121": (keras.applications.DenseNet121, keras.applications.densenet),
    "vgg16": (keras.applications.VGG16, keras.applications.vgg16),
    "resnet50": (keras.applications.ResNet50, keras.applications.resnet),
    "inceptionv3": (keras.applications.InceptionV3, keras.applications.inception_v3),
    "mobilenetv2": (keras.applications.MobileNetV2, keras.applications.mobilenet_v2),
    "efficientnetv2b0": (keras.applications.EfficientNetV2B0, keras.applications.efficientnet_v2),
}
# Building the larger networks takes long.
EACH = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name != "mobilenetv2" else []) for name in APPLICATIONS]
)


def preprocess(name, images):
    """Prepare grey images [n, S, S, 1] as Keras does for a backbone."""
    return np.asarray(APPLICATIONS[name][1].preprocess_input(np.repeat(images, 3, axis=-1)))


def random_images(name, n=3):
    size = SMALLEST_SIZES[name]
    return np.random.default_rng(n).integers(0, 256, (n, size, size, 1)).astype(np.float32)


def build(name, weights_file):
    return build_model(name=name, weights_file=weights_file, size=SMALLEST_SIZES[name], n_outputs=2, seed=1)


@cache
def application(name):
    """Build a Keras application with random weights and batch statistics of noise, so that its outputs vary."""
    keras.utils.set_random_seed(7)
    size = SMALLEST_SIZES[name]
    network = APPLICATIONS[name][0](include_top=False, weights=None, input_shape=(size, size, 3))
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.1
    network(preprocess(name, random_images(name, 8)), training=True)
    return network


@cache
def pretrained(name):
    """Build a model whose backbone has the weights of `application`."""
    with TemporaryDirectory() as folder:
        file = Path(folder, "saved.weights.h5")
        application(name).save_weights(file)
        return build(name, file)


@EACH
def test_a_pretrained_backbone_equals_that_of_keras(name):
    model, images = pretrained(name), random_images(name)
    expected = application(name)(preprocess(name, images.copy()), training=False).numpy()
    features = keras.Model(model.input, model.get_layer(POOLED).input)(images)
    np.testing.assert_allclose(features, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


@EACH
def test_a_pretrained_backbone_is_frozen_and_flat(name):
    model = pretrained(name)
    assert [variable.path for variable in model.trainable_variables] == ["probability/kernel", "probability/bias"]
    assert not any(isinstance(layer, (keras.Model, keras.layers.Lambda)) for layer in model.layers)
    assert len({layer.name for layer in model.layers}) == len(model.layers)
    until_normalised = model.layers[: model.layers.index(model.get_layer("normalisation")) + 1]
    assert {layer.name for layer in until_normalised} <= set(FLOAT32_LAYERS)


def test_without_weights_layers_are_trainable_and_have_the_same_names():
    first, second = pretrained("mobilenetv2"), build("mobilenetv2", None)
    assert [layer.name for layer in first.layers] == [layer.name for layer in second.layers]
    assert all(layer.trainable for layer in second.layers)
