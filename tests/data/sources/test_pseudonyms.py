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
    assert pseudonyms(ids("4711"), tmp_path / "patient.key").tolist() == ["b0a9f174b36e657b"]
    assert not (tmp_path / "patient.key").exists()


def test_the_same_patient_has_the_same_pseudonym(tmp_path):
    first = pseudonyms(ids("1", "2", None, "1"), tmp_path / "patient.key")
    assert first.dtype == "str"
    assert first[0] == first[3] != first[1]
    assert first.isna().tolist() == [False, False, True, False]
    assert pseudonyms(ids("1"), tmp_path / "patient.key")[0] == first[0]


def test_the_key_is_random_private_and_created_only_when_needed(tmp_path):
    assert pseudonyms(ids(None, None), tmp_path / "nowhere" / "patient.key").isna().all()
    assert key_fingerprint(tmp_path / "patient.key", make=False) is None
    assert not list(tmp_path.iterdir())
    key, other = tmp_path / "patient.key", tmp_path / "other"
    assert pseudonyms(ids("1"), key)[0] != pseudonyms(ids("1"), other)[0]
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert re.fullmatch("[0-9a-f]{64}", key.read_text())


def test_the_environment_takes_precedence_over_the_file(tmp_path, monkeypatch):
    (tmp_path / "patient.key").write_text("another key, long enough")
    by_file = pseudonyms(ids("1"), tmp_path / "patient.key")
    monkeypatch.setenv(VARIABLE, KEY)
    by_variable = pseudonyms(ids("1"), tmp_path / "patient.key")
    assert by_variable[0] != by_file[0]
    monkeypatch.delenv(VARIABLE)
    (tmp_path / "patient.key").write_text(f"{KEY}\n")
    pd.testing.assert_series_equal(pseudonyms(ids("1"), tmp_path / "patient.key"), by_variable)


def test_a_key_that_is_too_short_or_cannot_be_stored(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=f"cannot be stored.*No such file.*export {VARIABLE}="):
        pseudonyms(ids("1"), tmp_path / "nowhere" / "patient.key")
    (tmp_path / "patient.key").write_bytes(b"\xff" * 40)
    with pytest.raises(UserError, match="not UTF-8"):
        pseudonyms(ids("1"), tmp_path / "patient.key")
    (tmp_path / "patient.key").write_text("short\n")
    with pytest.raises(UserError, match=r"patient.key has 5 characters; expected 16"):
        pseudonyms(ids("1"), tmp_path / "patient.key")
    (tmp_path / "patient.key").write_bytes(b"")
    with pytest.raises(UserError, match=r"patient.key has 0 characters.* Restore the key .*openssl rand -hex 32$"):
        pseudonyms(ids("1"), tmp_path / "patient.key")
    monkeypatch.setenv(VARIABLE, "")
    with pytest.raises(UserError, match=f"{VARIABLE} has 0 characters"):
        pseudonyms(ids("1"), tmp_path / "patient.key")


def test_fingerprints_identify_keys(tmp_path, monkeypatch):
    file = tmp_path / "patient.key"
    made = key_fingerprint(file, make=True)
    assert made is not None
    assert re.fullmatch("[0-9a-f]{12}", made)
    assert key_fingerprint(file, make=False) == made
    assert made not in file.read_text()
    monkeypatch.setenv(VARIABLE, KEY)
    assert key_fingerprint(file, make=False) != made
    monkeypatch.setenv(VARIABLE, file.read_text())
    assert key_fingerprint(tmp_path / "nowhere", make=False) == made


def test_a_full_disk_leaves_no_key_and_no_other_file(tmp_path, monkeypatch):
    def fail(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as full, pytest.raises(UserError, match=r"cannot be stored in .*No space left"):
        full.setattr(os, "fsync", fail)
        key_fingerprint(tmp_path / "patient.key", make=True)
    assert not list(tmp_path.iterdir())
    assert key_fingerprint(tmp_path / "patient.key", make=True)


def test_a_folder_without_hard_links(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "link", fail)
    file = tmp_path / "patient.key"
    made = key_fingerprint(file, make=True)
    assert made == key_fingerprint(file, make=True)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [file]


def test_runs_that_start_at_once_use_one_key(tmp_path):
    file = tmp_path / "patient.key"
    with ThreadPoolExecutor(8) as threads:
        keys = set(threads.map(lambda _: key_fingerprint(file, make=True), range(200)))
    assert len(keys) == 1
    assert list(tmp_path.iterdir()) == [file]
