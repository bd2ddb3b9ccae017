import hashlib
import http.server
import re
import threading
from functools import partial

import h5py
import keras
import numpy as np
import pytest

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.training.networks import weights
from cxr_pipeline.training.networks.weights import KERAS_3_FILE, PUBLISHED, content_digest, find_weights, load_weights

CONTENT = b"weights" * 1000
NAME, ALIAS = PUBLISHED["densenet121"].file, KERAS_3_FILE.format("densenet121")


def check(raw, architecture="densenet121", parameter="imagenet"):
    weights.check_weights(architecture, parameter, raw, task="effusion")


def find(raw, parameter="imagenet", architecture="densenet121"):
    return find_weights(architecture, parameter, raw)


@pytest.fixture(autouse=True)
def keras_cache(tmp_path, monkeypatch):
    """An empty Keras cache, a small published file, and no network."""
    monkeypatch.setattr(weights, "BASE_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    small = PUBLISHED["densenet121"]._replace(md5=hashlib.md5(CONTENT).hexdigest())
    monkeypatch.setitem(PUBLISHED, "densenet121", small)
    (tmp_path / "keras" / "models").mkdir(parents=True)
    return tmp_path / "keras" / "models"


@pytest.fixture
def raw(tmp_path):
    (tmp_path / "raw" / "weights").mkdir(parents=True)
    return tmp_path / "raw"


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A local replacement of Keras' server; the folder of one architecture that it serves."""
    folder = tmp_path / "served" / "densenet"
    folder.mkdir(parents=True)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    serving = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder.parent)))
    threading.Thread(target=serving.serve_forever, daemon=True).start()
    monkeypatch.setattr(weights, "BASE_URL", f"http://127.0.0.1:{serving.server_port}")
    yield folder
    serving.shutdown()
    serving.server_close()


@pytest.fixture
def hdf5(tmp_path):
    """The content of an HDF5 file."""
    with h5py.File(tmp_path / "some.h5", "w") as file:
        file["kernel"] = np.zeros((100, 100))
    return (tmp_path / "some.h5").read_bytes()


@pytest.mark.parametrize(
    ("architecture", "parameter"), [("small_cnn", "none"), ("small_cnn", "imagenet"), ("densenet121", "none")]
)
def test_a_network_trained_from_scratch_needs_no_weights(architecture, parameter, raw):
    check(raw, architecture, parameter)
    assert find(raw, parameter, architecture) is None
    assert content_digest(architecture, parameter, raw) is None


def test_files_in_the_raw_folder_take_precedence_over_the_keras_cache(raw, keras_cache, hdf5):
    folder = raw / "weights"
    for file, content in ((keras_cache / NAME, CONTENT), (folder / ALIAS, hdf5), (folder / NAME, CONTENT)):
        file.write_bytes(content)
        check(raw)
        assert find(raw) == file


@pytest.mark.parametrize("architecture", PUBLISHED)
def test_every_backbone_has_published_weights_and_an_alias(architecture, raw, hdf5):
    file = raw / "weights" / f"{architecture}_imagenet_notop.weights.h5"
    file.write_bytes(hdf5)
    assert find(raw, architecture=architecture) == file
    file.write_bytes(hdf5[:-1000])
    with pytest.raises(UserError, match=f"{file.name} is damaged or not a weights file"):
        check(raw, architecture)
    if PUBLISHED[architecture].md5:
        (raw / "weights" / PUBLISHED[architecture].file).write_bytes(hdf5)
        with pytest.raises(UserError, match=r"is damaged or not a weights file \(expected the MD5"):
            check(raw, architecture)


def test_content_is_digested_unless_the_file_is_a_published_one(raw, keras_cache, hdf5):
    def digest(parameter="imagenet"):
        return content_digest("densenet121", parameter, raw)

    assert digest() is None  # The published file will be downloaded.
    (keras_cache / NAME).write_bytes(CONTENT)
    assert digest() is None
    alias = raw / "weights" / ALIAS
    alias.write_bytes(hdf5)
    assert digest() == digest(f"weights/{ALIAS}") == hashlib.md5(hdf5).hexdigest()
    assert find(raw, str(alias)) == find(raw, f"weights/{ALIAS}") == alias
    (raw / "weights" / NAME).write_bytes(CONTENT)
    assert digest() is None
    with pytest.raises(UserError, match=rf"found no file at .*absent\.h5 or {raw}"):
        digest("absent.h5")


@pytest.mark.parametrize(("architecture", "content"), [("densenet121", CONTENT), ("mobilenetv2", None)])
def test_a_truncated_file_in_the_cache_is_ignored(architecture, content, raw, keras_cache, hdf5):
    (keras_cache / PUBLISHED[architecture].file).write_bytes((content or hdf5)[:-1000])
    with pytest.raises(UserError, match=rf"{raw}/weights.*cannot be reached.*--params effusion\.model\.name=small_cnn"):
        check(raw, architecture)


def test_weights_are_downloaded_once(raw, server, keras_cache):
    (server / NAME).write_bytes(CONTENT)
    check(raw)
    assert not any(keras_cache.iterdir())
    assert find(raw) == keras_cache / NAME
    assert (keras_cache / NAME).read_bytes() == CONTENT
    (server / NAME).unlink()
    assert find(raw) == keras_cache / NAME


def test_a_missing_or_changed_download_is_refused(raw, server):
    for ask in (check, find):
        with pytest.raises(UserError, match="404"):
            ask(raw)
    (server / NAME).write_bytes(CONTENT + b"!")
    for _ in range(2):
        with pytest.raises(UserError, match="is not the expected file"):
            find(raw)


def test_a_download_without_a_published_md5_must_be_hdf5(raw, server, hdf5):
    served = server.parent / "mobilenet_v2" / PUBLISHED["mobilenetv2"].file
    served.parent.mkdir()
    served.write_bytes(b"<html>no weights today</html>")
    with pytest.raises(UserError, match="damaged or not a weights file"):
        find(raw, architecture="mobilenetv2")
    served.write_bytes(hdf5)
    file = find(raw, architecture="mobilenetv2")
    assert file.read_bytes() == hdf5


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
    load_weights(densenet, shared_data / "weights" / ALIAS)
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
    assert re.search(rf"The layers \w+, \w+ of {file} are the top of a network and are not used", caplog.text)
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
