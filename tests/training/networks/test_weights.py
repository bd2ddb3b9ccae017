import hashlib
import http.server
import threading
from functools import partial

import h5py
import numpy as np
import pytest
from safetensors.numpy import save_file

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.training.networks import weights
from cxr_pipeline.training.networks.weights import KERAS_3_FILE, PUBLISHED, content_digest, find_weights

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


@pytest.mark.parametrize(
    ("name", "content"), [("chest.pt", b"anything"), ("chest.h5", b"PK\x03\x04rest"), ("x", b"\x80\x02}q")]
)
def test_pickles_are_refused_with_the_lines_that_convert_them(raw, name, content):
    (raw / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"(?s)raw/{name} is a pickle of PyTorch.*torch\.load\(\"{name}\"") as refused:
        find(raw, name)
    lines = str(refused.value).splitlines()[1:]
    assert len(lines) == 3
    compile("\n".join(lines), "recipe", "exec")


def test_a_truncated_safetensors_file_is_refused(raw):
    save_file({"x": np.zeros(100, np.float32)}, raw / "own.safetensors")
    assert find(raw, "own.safetensors") == raw / "own.safetensors"
    (raw / "own.safetensors").write_bytes((raw / "own.safetensors").read_bytes()[:-8])
    with pytest.raises(UserError, match=r"own\.safetensors is damaged or not a weights file"):
        find(raw, "own.safetensors")


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
