import re

import h5py
import keras
import numpy as np
import pytest

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.training.networks.backbones import NORMALISATIONS
from cxr_pipeline.training.networks.build import build_model
from cxr_pipeline.training.networks.ensemble import combine
from cxr_pipeline.training.networks.views import with_views
from cxr_pipeline.training.networks.weight_files import load_weights, normalisation_of
from cxr_pipeline.training.networks.weights import KERAS_3_FILE


def network(*filters, seed=0):
    """Build convolutions with batch normalisation, which Keras names by a global counter."""
    image = features = keras.Input((8, 8, 1))
    for n in filters:
        features = keras.layers.Conv2D(n, 3, padding="same")(features)
        features = keras.layers.BatchNormalization()(features)
        features = keras.layers.DepthwiseConv2D(3, padding="same")(features)
    made = keras.Model(image, features, name="backbone")
    rng = np.random.default_rng(seed)
    made.set_weights([rng.normal(size=weight.shape) for weight in made.get_weights()])
    return made


def save_keras_3(model, folder):
    model.save_weights(folder / "saved.weights.h5")
    return folder / "saved.weights.h5"


def save_legacy(model, folder):
    from keras.src.legacy.saving import legacy_h5_format

    with h5py.File(folder / "saved.h5", "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model)
    return folder / "saved.h5"


FORMATS = pytest.mark.parametrize("save", [save_keras_3, save_legacy])


def assert_refused(model, file, reason=".*"):
    remedy = "Give a file with the weights of backbone, or set model.weights to imagenet or none"
    with pytest.raises(UserError, match=f"model.weights: {file} cannot be read: {reason} {remedy}"):
        load_weights(model, file)


def assert_same_weights(model, source):
    for loaded, expected in zip(model.get_weights(), source.get_weights(), strict=True):
        np.testing.assert_array_equal(loaded, expected)


@FORMATS
def test_weights_are_loaded_regardless_of_layer_names(tmp_path, save):
    source, target = network(4, 4, 4, seed=1), network(4, 4, 4, seed=2)
    load_weights(target, save(source, tmp_path))
    assert_same_weights(target, source)


@FORMATS
def test_weights_of_another_network_and_damaged_files_are_refused(tmp_path, save):
    model = network(4, 7, 9)
    for filters in ((4, 6, 8), (4,), (4, 7, 9, 3)):
        assert_refused(model, save(network(*filters), tmp_path))
    file = save(model, tmp_path)
    for content in (file.read_bytes()[:9000], b"none", b""):
        file.write_bytes(content)
        assert_refused(model, file)


def test_published_weights_saved_by_keras_3_fit(shared_data):
    densenet = keras.applications.DenseNet121(include_top=False, weights=None, input_shape=(32, 32, 3))
    before = densenet.get_weights()
    load_weights(densenet, shared_data / "weights" / KERAS_3_FILE.format("densenet121"))
    assert not any(np.array_equal(a, b) for a, b in zip(before, densenet.get_weights(), strict=True))


def with_top(backbone, target):
    """Add a top to a backbone, whose layers get the names of another one: those of published backbones are fixed."""
    for layer, other in zip(backbone.layers, target.layers, strict=False):
        layer.name = other.name
    pooled = keras.layers.GlobalAveragePooling2D()(backbone.output)
    hidden = keras.layers.Dense(5, name="hidden")(keras.layers.Dropout(0.5)(pooled))
    return keras.Model(backbone.input, keras.layers.Dense(3, name="predictions")(hidden))


@FORMATS
def test_the_top_in_a_file_is_not_used_and_said(tmp_path, save, caplog):
    source, target = network(4, 6, seed=1), network(4, 6, seed=2)
    file = save(with_top(source, target), tmp_path)
    with caplog.at_level("INFO"):
        load_weights(target, file)
    assert_same_weights(target, source)
    assert re.search(rf"{file} contains the top of a network, which is not used: \w+, \w+", caplog.text)
    larger = network(4, 6, 8)
    assert_refused(target, save(with_top(larger, target), tmp_path))


KERNEL = "layers/conv2d/vars/0"


def linked(file, path):
    return lambda opened: opened.__setitem__(KERNEL, h5py.ExternalLink(file, path))


# How to replace the kernel of the convolution, which was removed.
KERNELS = {
    "no values": lambda file: None,
    "not a number": lambda file: file.create_dataset(KERNEL, data=np.full((3, 3, 1, 4), np.nan, "f4")),
    "an infinite number": lambda file: file.create_dataset(KERNEL, data=np.full((3, 3, 1, 4), np.inf, "f4")),
    "a link to another file": linked("other.weights.h5", KERNEL),
    "values in another file": lambda file: file.create_dataset(
        KERNEL, (3, 3, 1, 4), "f4", external=[("/dev/zero", 0, 144)]
    ),
    "8 TB": lambda file: file.create_dataset(KERNEL, (2**41,), "f4", chunks=(1024,)),
    "layers is a dataset": lambda file: (file.pop("layers"), file.create_dataset("layers", data=[1])),
    "a link in a circle": lambda file: (
        file["layers"].pop("conv2d"),
        file["layers"].__setitem__("conv2d", h5py.SoftLink("/layers/conv2d")),
    ),
}


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_file_of_another_structure_is_refused(tmp_path, kernel):
    save_keras_3(network(4), tmp_path).rename(tmp_path / "other.weights.h5")
    file = save_keras_3(network(4), tmp_path)
    with h5py.File(file, "r+") as opened:
        del opened[KERNEL]
        KERNELS[kernel](opened)
    assert_refused(network(4), file, ".*not finite numbers." if "number" in kernel else ".*")


def built(**options):
    return build_model(name="mobilenetv2", size=32, **options)


@pytest.mark.parametrize("n_views", [1, 2])
def test_the_backbone_of_a_whole_model_is_that_of_its_first_member_with_its_normalisation(tmp_path, n_views):
    scaling = NORMALISATIONS["torchxrayvision"]
    members = [built(seed=seed, normalisation=scaling) for seed in (1, 2)]
    changes = dict.fromkeys(("rotation", "translation", "zoom", "brightness", "contrast"), 0.1)
    file = tmp_path / "model.keras"
    with_views(combine(members, "image"), n_views, changes, seed=3).save(file)
    assert normalisation_of(file) == scaling
    target = built(seed=4, weights_file=file)
    assert_same_weights(
        keras.Model(target.input, target.get_layer("out_relu").output),
        keras.Model(members[0].input, members[0].get_layer("out_relu").output),
    )
    assert (target.get_layer("normalisation").scale, target.get_layer("normalisation").offset) == scaling
    with pytest.raises(UserError, match="cannot be read: it is a mobilenetv2"):
        build_model(name="densenet121", size=32, weights_file=file)


def test_a_damaged_model_is_refused(tmp_path):
    file = tmp_path / "model.keras"
    built().save(file)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UserError, match=rf"model\.weights: {file} cannot be read"):
        built(weights_file=file)
