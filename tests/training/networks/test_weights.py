import hashlib
import http.server
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.training.networks import weights
from cxr_pipeline.training.networks.architectures import BACKBONES
from cxr_pipeline.training.networks.weights import PUBLISHED, check_weights, content_digest, find_weights, is_pretrained

CONTENT = b"weights" * 1000
NAME = "densenet121_weights_tf_dim_ordering_tf_kernels_notop.h5"


@pytest.fixture(autouse=True)
def keras_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty Keras cache, and a published file that is small."""
    home = tmp_path / "keras"
    home.mkdir()
    monkeypatch.setenv("KERAS_HOME", str(home))
    small = replace(PUBLISHED["densenet121"], md5=hashlib.md5(CONTENT).hexdigest())
    monkeypatch.setitem(PUBLISHED, "densenet121", small)
    return home


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "raw"
    (folder / "weights").mkdir(parents=True)
    return folder


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Keras' server, on this machine; gives the folder that it serves."""
    folder = tmp_path / "served" / "densenet"
    folder.mkdir(parents=True)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

    serving = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder.parent)))
    threading.Thread(target=serving.serve_forever, daemon=True).start()
    monkeypatch.setattr(weights, "BASE_URL", f"http://127.0.0.1:{serving.server_port}")
    yield folder
    serving.shutdown()
    serving.server_close()


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    monkeypatch.setattr(weights, "BASE_URL", f"http://127.0.0.1:{port}")


@pytest.mark.parametrize(
    ("architecture", "asked"),
    [("densenet121", "none"), ("small_cnn", "none"), ("small_cnn", "imagenet"), ("cnn", "imagenet")],
)
@pytest.mark.usefixtures("no_network")
def test_a_network_from_scratch_needs_no_weights(architecture: str, asked: str, raw: Path) -> None:
    check_weights(architecture, asked, raw, task="effusion")
    assert find_weights(architecture, asked, raw) is None


@pytest.fixture
def hdf5(tmp_path: Path) -> bytes:
    """Content of a file that could hold weights."""
    with h5py.File(tmp_path / "some.h5", "w") as file:
        file["kernel"] = np.zeros((100, 100))
    return (tmp_path / "some.h5").read_bytes()


@pytest.mark.usefixtures("no_network")
def test_weights_in_the_raw_folder_are_found(raw: Path) -> None:
    (raw / "weights" / NAME).write_bytes(CONTENT)
    check_weights("densenet121", "imagenet", raw, task="effusion")
    assert find_weights("densenet121", "imagenet", raw) == raw / "weights" / NAME


@pytest.mark.parametrize("architecture", BACKBONES)
@pytest.mark.usefixtures("no_network")
def test_weights_saved_again_are_found_for_every_backbone(architecture: str, raw: Path, hdf5: bytes) -> None:
    own = raw / "weights" / f"{architecture}_imagenet_notop.weights.h5"
    own.write_bytes(hdf5)
    check_weights(architecture, "imagenet", raw, task="effusion")
    assert find_weights(architecture, "imagenet", raw) == own
    own.write_bytes(hdf5[:-1000])
    with pytest.raises(UserError, match=f"{own.name} is damaged or no file of weights"):
        check_weights(architecture, "imagenet", raw, task="effusion")


def test_weights_are_told_apart_by_content_where_their_name_does_not_say_it(
    raw: Path, keras_home: Path, hdf5: bytes
) -> None:
    def digest(asked: str = "imagenet") -> str | None:
        return content_digest("densenet121", asked, raw)

    assert digest() is None  # they will be downloaded, and are then what Keras publishes
    (keras_home / "models").mkdir()
    (keras_home / "models" / NAME).write_bytes(CONTENT)
    assert digest() is None
    (raw / "weights" / PUBLISHED["densenet121"].alias).write_bytes(hdf5)
    assert digest() == digest(f"weights/{PUBLISHED['densenet121'].alias}") == hashlib.md5(hdf5).hexdigest()
    (raw / "weights" / NAME).write_bytes(CONTENT)
    assert digest() is None
    assert digest("none") is None
    with pytest.raises(UserError, match="found nothing at"):
        digest("absent.h5")


@pytest.mark.parametrize("asked", ["none", "imagenet"])
def test_a_network_from_scratch_is_not_pretrained(asked: str, raw: Path) -> None:
    assert not is_pretrained("small_cnn", asked)
    assert content_digest("small_cnn", asked, raw) is None
    assert is_pretrained("vgg16", asked) is (asked == "imagenet")


@pytest.mark.parametrize("architecture", BACKBONES)
def test_addresses_and_digests_are_those_of_keras(architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import keras

    asked: dict[str, object] = {}

    def get_file(fname: str, origin: str, *, file_hash: str | None = None, **options: object) -> None:
        asked.update(file=fname, url=origin, md5=file_hash)
        raise InterruptedError

    monkeypatch.undo()
    monkeypatch.setattr("keras.src.utils.file_utils.get_file", get_file)
    applications = {name.lower(): value for name, value in vars(keras.applications).items() if callable(value)}
    with pytest.raises(InterruptedError):
        applications[architecture](include_top=False, weights="imagenet", input_shape=(224, 224, 3))
    published = PUBLISHED[architecture]
    assert asked == {"file": published.file, "url": published.url, "md5": published.md5}


@pytest.mark.usefixtures("no_network")
def test_weights_without_a_published_digest_must_be_whole(raw: Path, keras_home: Path, hdf5: bytes) -> None:
    cached = keras_home / "models" / PUBLISHED["mobilenetv2"].file
    cached.parent.mkdir()
    cached.write_bytes(hdf5)
    assert find_weights("mobilenetv2", "imagenet", raw) == cached
    cached.write_bytes(hdf5[:-1000])
    with pytest.raises(UserError, match="cannot be reached"):
        check_weights("mobilenetv2", "imagenet", raw, task="effusion")


def test_a_download_without_a_published_digest_must_be_whole(raw: Path, server: Path, hdf5: bytes) -> None:
    served = server.parent / "mobilenet_v2" / PUBLISHED["mobilenetv2"].file
    served.parent.mkdir()
    served.write_bytes(b"<html>no weights today</html>")
    with pytest.raises(UserError, match=r"could not be downloaded .*damaged or no file of weights"):
        find_weights("mobilenetv2", "imagenet", raw)
    served.write_bytes(hdf5)
    found = find_weights("mobilenetv2", "imagenet", raw)
    assert found is not None
    assert found.read_bytes() == hdf5


@pytest.mark.usefixtures("no_network")
def test_weights_in_keras_cache_are_found(raw: Path, keras_home: Path) -> None:
    cached = keras_home / "models" / NAME
    cached.parent.mkdir()
    cached.write_bytes(CONTENT)
    check_weights("densenet121", "imagenet", raw, task="effusion")
    assert find_weights("densenet121", "imagenet", raw) == cached


@pytest.mark.usefixtures("no_network")
def test_half_a_file_in_keras_cache_does_not_count(raw: Path, keras_home: Path) -> None:
    cached = keras_home / "models" / NAME
    cached.parent.mkdir()
    cached.write_bytes(CONTENT[:-1])
    with pytest.raises(UserError, match="cannot be reached"):
        check_weights("densenet121", "imagenet", raw, task="effusion")


def test_half_a_file_in_the_raw_folder_is_named(raw: Path) -> None:
    (raw / "weights" / NAME).write_bytes(CONTENT[:-1])
    with pytest.raises(UserError, match=f"{NAME} is damaged or another file: expected the MD5"):
        check_weights("densenet121", "imagenet", raw, task="effusion")


def test_weights_are_downloaded_once(raw: Path, server: Path, keras_home: Path) -> None:
    (server / NAME).write_bytes(CONTENT)
    check_weights("densenet121", "imagenet", raw, task="effusion")
    assert not (keras_home / "models").exists()

    found = find_weights("densenet121", "imagenet", raw)
    assert found == keras_home / "models" / NAME
    assert found.read_bytes() == CONTENT
    (server / NAME).unlink()
    assert find_weights("densenet121", "imagenet", raw) == found


def test_a_download_that_was_changed_on_the_way_is_refused(raw: Path, server: Path) -> None:
    (server / NAME).write_bytes(CONTENT + b"!")
    with pytest.raises(UserError, match=r"could not be downloaded .*does not match"):
        find_weights("densenet121", "imagenet", raw)
    with pytest.raises(UserError, match="could not be downloaded"):
        find_weights("densenet121", "imagenet", raw)


def test_a_download_that_is_not_there(raw: Path, server: Path) -> None:
    for act in (
        lambda: check_weights("densenet121", "imagenet", raw, task="effusion"),
        lambda: find_weights("densenet121", "imagenet", raw),
    ):
        with pytest.raises(UserError, match="404"):
            act()


@pytest.mark.usefixtures("no_network")
def test_without_network_the_message_says_what_to_do(raw: Path) -> None:
    with pytest.raises(UserError) as refusal:
        check_weights("densenet121", "imagenet", raw, task="effusion")
    message = str(refusal.value)
    assert str(raw / "weights") in message
    assert f"/densenet/{NAME} cannot be reached" in message
    assert "--params effusion.model.name=small_cnn" in message


def test_a_path_is_taken_as_it_is_or_relative_to_raw(raw: Path, hdf5: bytes) -> None:
    own = raw / "own.weights.h5"
    own.write_bytes(hdf5)
    assert find_weights("densenet121", str(own), raw) == own
    assert find_weights("densenet121", "own.weights.h5", raw) == own


def test_a_damaged_path_is_named_before_any_work(raw: Path) -> None:
    (raw / "own.weights.h5").write_bytes(CONTENT)
    with pytest.raises(UserError, match=r"own\.weights\.h5 is damaged or no file of weights"):
        check_weights("vgg16", "own.weights.h5", raw, task="effusion")


def test_a_path_that_is_not_there_is_named(raw: Path) -> None:
    with pytest.raises(UserError, match=rf"found nothing at .*absent\.weights\.h5 nor at {raw}"):
        check_weights("densenet121", "absent.weights.h5", raw, task="effusion")


def test_the_check_starts_no_tensorflow(raw: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from cxr_pipeline.training.networks.weights import check_weights;"
        f"check_weights('small_cnn', 'imagenet', Path({str(raw)!r}), task='effusion');"
        "print('keras' in sys.modules or 'tensorflow' in sys.modules or 'h5py' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
