import errno
import os
import re
import stat
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.sources.pseudonyms import VARIABLE, key_fingerprint, pseudonyms

KEY = "sixteen letters!"


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)


def ids(*names):
    return pd.Series(names, dtype="str")


def test_a_pseudonym_is_an_hmac(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, "a" * 16)
    # printf 4711 | openssl dgst -sha256 -hmac aaaaaaaaaaaaaaaa
    found = pseudonyms(ids("4711", "2", None, "4711"), tmp_path / "patient.key")
    assert found.dtype == "str"
    assert found[0] == found[3] == "b0a9f174b36e657b" != found[1]
    assert found.isna().tolist() == [False, False, True, False]
    assert not (tmp_path / "patient.key").exists()


def test_the_key_is_random_private_and_created_only_when_needed(tmp_path):
    key, other = tmp_path / "patient.key", tmp_path / "other"
    assert pseudonyms(ids(None, None), key).isna().all()
    assert key_fingerprint(key, make=False) is None
    assert not list(tmp_path.iterdir())
    assert pseudonyms(ids("1"), key)[0] == pseudonyms(ids("1"), key)[0] != pseudonyms(ids("1"), other)[0]
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert re.fullmatch("[0-9a-f]{64}", key.read_text())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, f"cannot be stored in .*No such file.*export {VARIABLE}="),
        (b"\xff" * 40, "not UTF-8"),
        (b"short\n", "key has 5 characters; expected 16 .* Restore the key .*openssl rand -hex 32$"),
        (b"", "key has 0 characters"),
    ],
)
def test_a_key_that_is_too_short_or_cannot_be_stored(tmp_path, monkeypatch, content, message):
    file = tmp_path / "folder" / "patient.key"
    if content is not None:
        file.parent.mkdir()
        file.write_bytes(content)
    with pytest.raises(UserError, match=message):
        pseudonyms(ids("1"), file)
    monkeypatch.setenv(VARIABLE, "")
    with pytest.raises(UserError, match=f"{VARIABLE} has 0 characters"):
        pseudonyms(ids("1"), file)


def test_fingerprints_identify_keys(tmp_path, monkeypatch):
    file = tmp_path / "patient.key"
    made = key_fingerprint(file, make=True)
    assert re.fullmatch("[0-9a-f]{12}", made)
    assert key_fingerprint(file, make=False) == made
    assert made not in file.read_text()
    monkeypatch.setenv(VARIABLE, KEY)
    assert key_fingerprint(file, make=False) != made
    monkeypatch.setenv(VARIABLE, file.read_text())
    assert key_fingerprint(tmp_path / "nowhere", make=False) == made


def test_a_full_disk_and_a_folder_without_hard_links(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    file = tmp_path / "patient.key"
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(UserError, match=r"cannot be stored in .*No space left"):
            key_fingerprint(file, make=True)
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(os, "link", fail)
    assert key_fingerprint(file, make=True) == key_fingerprint(file, make=True)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [file]


def test_the_key_of_another_run_is_kept_without_hard_links(tmp_path, monkeypatch):
    file = tmp_path / "patient.key"

    def other_run_is_faster(*_):
        monkeypatch.setattr(type(file), "exists", lambda self: False)  # as before the other run
        file.write_text("k" * 64)
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", other_run_is_faster)
    key_fingerprint(file, make=True)
    assert file.read_text() == "k" * 64


def test_runs_that_start_at_once_use_one_key(tmp_path):
    file = tmp_path / "patient.key"
    with ThreadPoolExecutor(8) as threads:
        keys = set(threads.map(lambda _: key_fingerprint(file, make=True), range(200)))
    assert len(keys) == 1
    assert list(tmp_path.iterdir()) == [file]
