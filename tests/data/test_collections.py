import dataclasses
import io
import shutil
import zipfile
from types import SimpleNamespace

import pytest
from file_server import serve

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.common.locks import Locked, RunLock
from cxr_pipeline.data.collections import RemoteFile, fetch, fetched_collection, read_collections
from cxr_pipeline.data.sources import class_folders

KERMANY = read_collections()["kermany"]
PATH = "/kermany/ChestXRay2017.zip"


def archive(names=("NORMAL/IM-0001-0001.jpeg", "PNEUMONIA/person1_virus_6.jpeg"), content=b"image"):
    """A zip archive with the layout of ``ChestXRay2017.zip``."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as opened:
        for name in names:
            opened.writestr(f"chest_xray/train/{name}", content)
            opened.writestr(f"__MACOSX/chest_xray/train/._{name.rpartition('/')[2]}", b"-")
    return file.getvalue()


@pytest.fixture
def server():
    with serve({PATH: archive()}) as running:
        yield running


@pytest.fixture(autouse=True)
def _free_space(monkeypatch):
    """Free space for the size that the description of a collection gives: the archives of these tests are small."""
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1e13))


def fetch_all(server, raw, collection=KERMANY, **options):
    return list(fetch(collection, raw, mirror=f"{server.url}/", **options))


def test_facts_of_all_collections_are_there():
    for collection in read_collections().values():
        assert collection.page.startswith("https://")
        assert bool(collection.files and collection.licence and collection.citation) != bool(collection.terms)
        assert len({file.name for file in collection.files}) == len(collection.files)
        for file in collection.files:
            assert file.url.startswith("https://")
            algorithm, _, digits = (file.checksum or f"md5:{0:032}").partition(":")
            assert (len(digits), int(digits, 16) >= 0) == ({"md5": 32, "sha256": 64}[algorithm], True)
            assert file.checksum or collection == KERMANY


def test_an_archive_is_unpacked_and_its_origin_is_stored_beside_it(server, tmp_path):
    (line,) = fetch_all(server, tmp_path)
    assert line == f"Downloading ChestXRay2017.zip (1.2 GB) from {server.url}{PATH}"
    listing = class_folders.read(tmp_path / "kermany", patient_id=r"^(person\d+)_|^((?:NORMAL2-)?IM-\d+)-")
    assert listing.images["patient_id"].tolist() == ["IM-0001", "person1"]
    assert sorted(path.name for path in (tmp_path / "kermany").iterdir()) == [".fetched", "kermany.txt", "train"]
    notice = (tmp_path / "kermany" / "kermany.txt").read_text("utf-8")
    for text in ("Licence: CC BY 4.0", "Citation: Kermany", "  SHA-256 ", "  No published checksum is known."):
        assert text in notice
    assert fetched_collection(tmp_path / "kermany") == KERMANY

    n_sent = server.n_sent
    assert fetch_all(server, tmp_path) == ["ChestXRay2017.zip is complete."]
    assert server.n_sent == n_sent

    (tmp_path / "kermany" / "train" / "NORMAL" / "IM-0001-0001.jpeg").unlink()
    fetch_all(server, tmp_path)
    assert fetch_all(server, tmp_path) == ["ChestXRay2017.zip is complete."]

    # Another archive at the same address, when a file is missing once more.
    (tmp_path / "kermany" / "train" / "NORMAL" / "IM-0001-0001.jpeg").unlink()
    server.files[PATH] = archive(content=b"other")
    with pytest.raises(UserError, match=r"is not the expected file: its checksum is \w+; expected sha256:"):
        fetch_all(server, tmp_path)


@pytest.mark.parametrize("path", ["kermany", "medmnist/pneumoniamnist.npz", "own", "."])
def test_the_collection_of_a_folder_without_a_record_is_unknown(tmp_path, path):
    (tmp_path / "medmnist" / ".fetched").mkdir(parents=True)
    (tmp_path / "medmnist" / ".fetched" / "pneumoniamnist_64.npz.json").touch()
    assert fetched_collection(tmp_path / path) is None
    assert fetched_collection(tmp_path / "medmnist/pneumoniamnist_64.npz").name == "pneumoniamnist_64"


def test_an_archive_put_there_by_hand_is_unpacked(server, tmp_path):
    server.status = 403
    with pytest.raises(UserError, match=r"save the file as .*kermany/ChestXRay2017\.zip, and run"):
        fetch_all(server, tmp_path)
    (tmp_path / "kermany" / "ChestXRay2017.zip").write_bytes(archive())
    assert fetch_all(server, tmp_path) == [f"Unpacking {tmp_path}/kermany/ChestXRay2017.zip"]
    assert fetch_all(server, tmp_path) == ["ChestXRay2017.zip is complete."]


def test_files_that_stay_as_they_are(server, tmp_path):
    checksum = "sha256:" + "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"  # of "x"
    files = [RemoteFile(f"{name}.csv", "https://example.org", checksum, 1) for name in "ab"]
    archives = [RemoteFile(f"{n}.zip", "https://example.org", unpack="chest_xray") for n in (1, 2)]
    nih = dataclasses.replace(KERMANY, name="nih", path="nih", files=(*files, *archives))
    server.files = {f"/nih/{file.name}": archive() if file.unpack else b"x" for file in nih.files}
    assert len(fetch_all(server, tmp_path, nih, n_archives=1)) == 3
    assert sorted(path.name for path in (tmp_path / "nih").iterdir()) == [
        ".fetched",
        "a.csv",
        "b.csv",
        "nih.txt",
        "train",
    ]
    (tmp_path / "nih" / "b.csv").write_bytes(b"y")
    with pytest.raises(UserError, match=r"b\.csv is damaged, or not the file of this collection"):
        fetch_all(server, tmp_path, nih)
    (tmp_path / "nih" / "b.csv").unlink()
    complete, *rest = fetch_all(server, tmp_path, nih)
    assert complete == "a.csv is complete."
    assert [line.partition(" from")[0] for line in rest] == [
        "Downloading b.csv (0.0 MB)",
        "1.zip is complete.",
        "Downloading 2.zip",
    ]


def test_files_of_the_user_a_full_disk_and_another_process(server, tmp_path, monkeypatch):
    (tmp_path / "kermany" / "train").mkdir(parents=True)
    with pytest.raises(UserError, match="has files that kedro fetch did not download, such as train"):
        fetch_all(server, tmp_path)
    with monkeypatch.context() as full_disk:
        full_disk.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=2e9))
        with pytest.raises(UserError, match=r"needs about 2\.5 GB of free disk space; found 2\.0 GB"):
            fetch_all(server, tmp_path / "other")
    (tmp_path / "other" / "kermany" / ".fetched" / "ChestXRay2017.zip.part").symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"kermany could not be written: No space left on device\. .* it resumes\."):
        fetch_all(server, tmp_path / "other")
    lock = RunLock(tmp_path / "other" / "kermany" / ".fetched" / "lock", "test")
    lock.acquire("test")
    with pytest.raises(Locked, match=r"kedro fetch into .*kermany is already running"):
        fetch_all(server, tmp_path / "other")
    lock.release()
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="could not be locked"):
        fetch_all(server, tmp_path / "file")
