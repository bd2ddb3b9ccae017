import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.training.networks.weight_files import check_readable, load_weights

BOTH = pytest.mark.parametrize("older", [False, True], ids=["weights.h5", "h5"])


def network(*units: int, seed: int = 0, kernel: int = 3) -> Any:
    """Convolutions with batch normalisation, whose names are counted over the whole process."""
    keras.utils.set_random_seed(seed)
    image = features = keras.Input((8, 8, 1))
    for n in units:
        features = keras.layers.Conv2D(n, kernel, padding="same")(features)
        features = keras.layers.BatchNormalization()(features)
        features = keras.layers.DepthwiseConv2D(3, padding="same")(features)
    made = keras.Model(image, features)
    rng = np.random.default_rng(seed)
    for layer in with_weights(made):
        layer.set_weights([rng.normal(size=weight.shape) for weight in layer.get_weights()])
    return made


def with_weights(model: Any) -> list[Any]:
    return [layer for layer in model.layers if layer.weights]


def save(model: Any, path: Path, *, older: bool) -> Path:
    if not older:
        path = path.with_suffix(".weights.h5")
        model.save_weights(path)
        return path
    from keras.src.legacy.saving import legacy_h5_format

    with h5py.File(path.with_suffix(".h5"), "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model)
    return path.with_suffix(".h5")


def values(model: Any) -> list[np.ndarray]:
    return [np.array(value) for value in model.get_weights()]


def assert_refused(target: Any, file: Path, message: str) -> None:
    """The message comes, and no layer was changed."""
    before = values(target)
    with pytest.raises(UserError, match=message) as refusal:
        load_weights(with_weights(target), file, network="thenet")
    assert str(file) in str(refusal.value)
    assert "set model.weights to" in str(refusal.value)
    assert all(np.array_equal(a, b) for a, b in zip(before, values(target), strict=True))


@BOTH
def test_weights_come_back_whatever_the_layers_are_called(tmp_path: Path, older: bool) -> None:
    file = save(network(4, 4, 4, seed=1), tmp_path / "saved", older=older)
    target = network(4, 4, 4, seed=2)
    load_weights(with_weights(target), file, network="thenet")
    for found, expected in zip(values(target), values(network(4, 4, 4, seed=1)), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", ["inceptionv3"])
def test_keras_reads_the_older_format_the_same_way(
    name: str, application: Callable[[str], Any], tmp_path: Path
) -> None:
    backbone = application(name)
    file = save(backbone, tmp_path / name, older=True)
    expected = values(backbone)
    try:
        backbone.set_weights([np.zeros_like(value) for value in expected])
        load_weights(with_weights(backbone), file, network=name)
        assert all(np.array_equal(a, b) for a, b in zip(values(backbone), expected, strict=True))
        backbone.load_weights(file)
        assert all(np.array_equal(a, b) for a, b in zip(values(backbone), expected, strict=True))
    finally:
        backbone.set_weights(expected)


@BOTH
def test_the_first_layer_of_another_shape_is_named(tmp_path: Path, older: bool) -> None:
    file = save(network(4, 6, 8), tmp_path / "saved", older=older)
    target = network(4, 7, 9)
    name = [layer.name for layer in target.layers if isinstance(layer, keras.layers.Conv2D)][1]
    message = (
        rf"of its layer {name} the shapes are \(3, 3, 4, 7\) \(7,\), found \(3, 3, 4, 6\) \(6,\) \(there named \w+\)"
    )
    assert_refused(target, file, rf"does not hold the weights of thenet: {message}")


@BOTH
def test_the_first_layer_that_is_absent_is_named(tmp_path: Path, older: bool) -> None:
    file = save(network(4), tmp_path / "saved", older=older)
    target = network(4, 4)
    name = [layer.name for layer in target.layers if isinstance(layer, keras.layers.Conv2D)][1]
    assert_refused(target, file, rf"its layer {name} is absent")


@BOTH
def test_a_layer_too_many_is_named(tmp_path: Path, older: bool) -> None:
    file = save(network(4, 4), tmp_path / "saved", older=older)
    assert_refused(network(4), file, r"it also holds a layer \w*(conv2d|batch_norm)\w*, which the network has not")


def test_weights_of_another_backbone_are_refused(
    application: Callable[[str], Any], saved: Callable[[str], Path]
) -> None:
    assert_refused(application("vgg16"), saved("resnet50"), r"of its layer block1_conv1 the shapes are \(3, 3, 3, 64\)")


@pytest.mark.parametrize("damage", ["cut", "text", "empty", "no layers", "a layer without values"])
@BOTH
def test_a_damaged_file_says_so(tmp_path: Path, damage: str, older: bool) -> None:
    file = save(network(64), tmp_path / "saved", older=older)
    content = file.read_bytes()
    if damage == "a layer without values":
        with h5py.File(file, "r+") as opened:
            group = opened["layers/conv2d/vars"] if not older else opened[opened.attrs["layer_names"][1]]
            del group[next(iter(group))]
        assert_refused(network(64), file, "is damaged or no file of weights|of its layer|is absent")
        return
    if damage == "no layers":
        h5py.File(file, "w").close()
    else:
        file.write_bytes({"cut": content[: len(content) * 2 // 3], "text": b"no weights", "empty": b""}[damage])
    assert_refused(network(64), file, "is damaged or no file of weights")


def test_a_file_that_is_cut_is_noticed_without_reading_it(tmp_path: Path) -> None:
    file = save(network(64), tmp_path / "saved", older=False)
    check_readable(file)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UserError, match=re.escape(f"model.weights: {file} is damaged or no file of weights (")):
        check_readable(file)


def test_published_weights_saved_again_by_keras_3_fit(shared_data: Path) -> None:
    image = keras.Input((32, 32, 3))
    densenet = keras.applications.DenseNet121(include_top=False, weights=None, input_tensor=image)
    file = shared_data / "weights" / "densenet121_imagenet_notop.weights.h5"
    load_weights(with_weights(densenet), file, network="densenet121")
    found = values(densenet)
    densenet.set_weights([np.zeros_like(value) for value in found])
    densenet.load_weights(file)
    assert all(np.array_equal(a, b) for a, b in zip(found, values(densenet), strict=True))
