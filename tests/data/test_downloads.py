import hashlib
import io
import os
import random
import tarfile
import zipfile

import pytest
from file_server import serve

from cxr_pipeline.common.errors import Unavailable, UserError
from cxr_pipeline.data import downloads

CONTENT = random.Random(0).randbytes(1_000_000)
CHECKSUM = f"md5:{hashlib.md5(CONTENT).hexdigest()}"
PAGE = "https://example.org/collection"


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(downloads, "_PAUSE_SECONDS", 0)
    with serve({"/a.bin": CONTENT}) as running:
        yield running


@pytest.fixture
def fetch(server, tmp_path):
    """Download ``a.bin``, and return its content."""

    def call(url=None, checksum=CHECKSUM):
        url = url or f"{server.url}/a.bin"
        downloads.download(url, tmp_path / "a.bin", checksum=checksum, page=PAGE, by_hand="/saved")
        assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]
        return (tmp_path / "a.bin").read_bytes()

    return call


def test_an_interrupted_transfer_goes_on_in_the_same_call(server, fetch):
    server.cut_after = 300_000
    assert fetch() == CONTENT
    # Less than one block of each of three interrupted transfers is sent twice.
    assert server.n_sent < len(CONTENT) + 3 * 2**16
    n_sent = server.n_sent
    assert fetch() == CONTENT
    assert server.n_sent == n_sent


@pytest.mark.parametrize("ranges", [True, False])
def test_a_later_call_goes_on_where_the_server_allows_it(ranges, server, fetch, tmp_path):
    server.ranges = ranges
    (tmp_path / "a.bin.part").write_bytes(CONTENT[:600_000])
    assert fetch() == CONTENT
    assert server.n_sent == (400_000 if ranges else len(CONTENT))


@pytest.mark.parametrize("part", [CONTENT, CONTENT + b"more"], ids=["complete", "too long"])
def test_a_part_that_is_complete_or_too_long(part, server, fetch, tmp_path):
    (tmp_path / "a.bin.part").write_bytes(part)
    (tmp_path / "tmp1234").write_bytes(b"left by a killed process")
    assert fetch() == CONTENT
    assert server.n_sent == (0 if part == CONTENT else len(CONTENT))


def test_a_server_without_ranges_that_always_stops_is_unavailable(server, fetch, tmp_path):
    server.ranges, server.cut_after = False, 300_000
    with pytest.raises(Unavailable, match=r"was interrupted .* bytes have arrived\. Run the same command again"):
        fetch()
    server.cut_after = None
    assert fetch() == CONTENT


@pytest.mark.parametrize(
    ("status", "error", "message"),
    [
        (
            404,
            UserError,
            f"404 Not Found; expected the file a.bin. Look at {PAGE} in a browser, save the file as /saved, and",
        ),
        (403, UserError, "answers with 403 Forbidden"),
        (503, Unavailable, "answers with 503 Service Unavailable. Run the same command again later: it resumes."),
        (429, Unavailable, "answers with 429"),
    ],
)
def test_statuses_are_explained(status, error, message, server, fetch):
    server.status = status
    with pytest.raises(UserError) as raised:
        fetch()
    assert type(raised.value) is error
    assert message in str(raised.value)


def test_wrong_content_is_refused_and_deleted(server, fetch, tmp_path):
    with pytest.raises(UserError, match=f"its checksum is {CHECKSUM[4:]}; expected md5:0000"):
        fetch(checksum=f"md5:{0:032}")
    assert not list(tmp_path.iterdir())
    server.content_type = "text/html; charset=utf-8"
    with pytest.raises(UserError, match=r"answers with a web page; expected the file a\.bin"):
        fetch()


@pytest.mark.parametrize(
    ("url", "error", "message"),
    [
        ("http://127.0.0.1:1/a.bin", Unavailable, "does not answer (Connection refused)"),
        ("localhost/a.bin", UserError, "localhost/a.bin cannot be downloaded"),
    ],
)
def test_addresses_without_a_server(url, error, message, fetch):
    with pytest.raises(error) as raised:
        fetch(url)
    assert message in str(raised.value)


def _tar(path, members):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            if content is None:
                member.type, member.linkname = tarfile.SYMTYPE, "/etc"
            else:
                member.size = len(content)
            archive.addfile(member, io.BytesIO(content or b""))


def _zip(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


@pytest.mark.parametrize("write", [_zip, _tar])
def test_the_files_of_one_folder_are_unpacked(write, tmp_path):
    contents = {"x/train/a.jpeg": b"one", "x/train/.DS_Store": b"-", "__MACOSX/x/train/._a.jpeg": b"-", "x/b": b"two"}
    write(tmp_path / "archive", contents)
    assert downloads.unpack(tmp_path / "archive", tmp_path / "out", inside="x") == {"train/a.jpeg": 3, "b": 3}
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert sorted(path.read_bytes() for path in files) == [b"one", b"two"]


@pytest.mark.parametrize(
    ("write", "members", "message"),
    [
        (_zip, {"../evil": b"-"}, "leads out of the folder"),
        (_tar, {"a": b"-", "../evil": b"-"}, "leads out of the folder"),
        (_tar, {"/evil": b"-"}, "leads out of the folder"),
        (_zip, {"..\\evil": b"-"}, "leads out of the folder"),
        (_tar, {"out": None, "out/passwd": b"-"}, "'out' in it is a link or a device"),
        (_zip, {str(n): bytes(2**24) for n in range(5)}, "it expands to more than 2 times"),
        (_tar, {"other/a": b"-"}, "has no files in its folder x"),
        (lambda path, _: path.write_bytes(CONTENT), {}, "cannot be read"),
        (lambda path, _: path.write_bytes(b""), {}, "cannot be read"),
    ],
)
def test_hostile_and_damaged_archives_write_nothing_elsewhere(write, members, message, tmp_path):
    write(tmp_path / "archive", members)
    with pytest.raises(UserError, match=message):
        downloads.unpack(tmp_path / "archive", tmp_path / "in" / "out", inside="x" if "other/a" in members else ".")
    assert not (tmp_path / "in" / "evil").exists()
    assert {path.name for path in tmp_path.iterdir()} <= {"archive", "in"}


def test_a_truncated_archive_is_named(tmp_path):
    _tar(tmp_path / "archive", {"a": CONTENT})
    os.truncate(tmp_path / "archive", 500_000)
    with pytest.raises(UserError, match=r"archive cannot be read: .*Delete it and run the same command again\."):
        downloads.unpack(tmp_path / "archive", tmp_path / "out")
