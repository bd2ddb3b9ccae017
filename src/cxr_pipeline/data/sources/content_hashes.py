"""SHA-256 of the content of images, cached until their files change."""

import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from cxr_pipeline.common.errors import ImageRefused
from cxr_pipeline.common.files import written_atomically
from cxr_pipeline.data.sources.folders import map_in_threads
from cxr_pipeline.data.sources.readers import Reader

# A file may change again within one tick of its file system's clock, keeping its size and modification time. As git
# does (https://git-scm.com/docs/racy-git), hashes of files that changed within the last tick are not stored. Two
# seconds is the tick of FAT, the longest.
_CLOCK_TICK_NS = 2 * 10**9

_Hashes = dict[str, tuple[tuple[int, int], str]]


def content_hashes(reader: Reader, paths: Sequence[str], *, cache: Path | None = None) -> pd.DataFrame:
    """Return the SHA-256 of many images, computed on as many threads as there are cores.

    The hash in the folder ``cache`` is used if the size and modification time of the file have not changed.

    Returns:
        ``sha256`` (64 hexadecimal digits), ``reason`` and ``detail``, in the order of ``paths``. Refused and empty
        images have no ``sha256``; all others have no ``reason``.

    Raises:
        UserError: the hashes cannot be stored.
    """
    known: dict[str, str] = {}
    if cache:
        # Its options decide which images a reader refuses, so each combination of folder and options has its own file.
        file = cache / f"{hashlib.sha256(repr(reader).encode()).hexdigest()[:32]}.json"
        started = time.time_ns()
        found = map_in_threads(reader.version, paths, description="Looking for changes")
        versions = dict(zip(paths, found, strict=True))
        stored = _load(file)
        known = {path: stored[path][1] for path in paths if path in stored and stored[path][0] == versions[path]}

    def row(path: str) -> tuple[str | None, str | None, str | None]:
        try:
            content = reader.read(path)
        except ImageRefused as refusal:
            return None, refusal.reason, refusal.detail
        return (hashlib.sha256(content).hexdigest(), None, None) if content else (None, "empty", "zero bytes")

    new = [path for path in paths if path not in known]
    rows = dict(zip(new, map_in_threads(row, new, description="Hashing images"), strict=True))
    if cache and new:
        for path, (sha256, _, _) in rows.items():
            version = versions[path]
            if sha256 and version and version[1] < started - _CLOCK_TICK_NS:
                stored[path] = version, sha256
        _store(file, stored)
    table = [rows[path] if path in rows else (known[path], None, None) for path in paths]
    return pd.DataFrame(table, columns=["sha256", "reason", "detail"]).astype("str")


def _load(file: Path) -> _Hashes:
    """Read stored hashes; none if the file is missing or damaged."""
    try:
        digest, _, content = file.read_bytes().partition(b"\n")
    except OSError:
        return {}
    if hashlib.sha256(content).hexdigest().encode() != digest:
        return {}
    return {path: ((size, changed_ns), sha256) for path, size, changed_ns, sha256 in json.loads(content)}


def _store(file: Path, hashes: _Hashes) -> None:
    content = json.dumps([(path, *version, sha256) for path, (version, sha256) in hashes.items()]).encode()
    with written_atomically(file) as beside:
        beside.write_bytes(hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
