"""SHA-256 of the content of images, stored until their files change."""

import hashlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cxr_pipeline.common.array_store import ArrayStore
from cxr_pipeline.common.errors import ImageRefused
from cxr_pipeline.data.sources.folders import map_in_threads

if TYPE_CHECKING:
    from cxr_pipeline.data.sources.readers import Reader

# A file may change again within one tick of its file system's clock, keeping its size and modification time. As git
# does (https://git-scm.com/docs/racy-git), hashes of files that changed within the last tick are not stored. Two
# seconds is the tick of FAT, the longest.
_CLOCK_TICK_NS = 2 * 10**9


def content_hashes(reader: "Reader", paths: Sequence[str], *, cache: Path | None = None) -> pd.DataFrame:
    """Return the SHA-256 of many images, computed on as many threads as there are cores.

    The hash in the folder ``cache`` is used if the size and modification time of the file have not changed.

    Returns:
        ``sha256`` (64 hexadecimal digits), ``reason`` and ``detail``, in the order of ``paths``. Refused and empty
        images have no ``sha256``; all others have no ``reason``.
    """
    rows: dict[str, tuple[str | None, str | None, str | None]] = {}
    keys: dict[str, str] = {}
    if cache:
        # Its options decide which images a reader refuses, so each combination of folder and options has its own.
        stored = ArrayStore(cache / hashlib.sha256(repr(reader).encode()).hexdigest()[:32], "S64")
        versions = map_in_threads(reader.version, paths, description="Looking for changes")
        keys = {path: key for path, version in zip(paths, versions, strict=True) if (key := hash_key(path, version))}
        unknown = set(stored.missing(keys.values()))
        known = [path for path, key in keys.items() if key not in unknown]
        hashes = stored.read([keys[path] for path in known]).tolist()
        rows = {path: (sha256.decode(), None, None) for path, sha256 in zip(known, hashes, strict=True)}

    def row(path: str) -> tuple[str | None, str | None, str | None]:
        try:
            content = reader.read(path)
        except ImageRefused as refusal:
            return None, refusal.reason, refusal.detail
        return (hashlib.sha256(content).hexdigest(), None, None) if content else (None, "empty", "zero bytes")

    new = [path for path in paths if path not in rows]
    rows |= dict(zip(new, map_in_threads(row, new, description="Hashing images"), strict=True))
    if cache:
        lasting = [path for path in new if path in keys and rows[path][0]]
        stored.write([keys[path] for path in lasting], np.array([rows[path][0] for path in lasting], "S"))
    return pd.DataFrame([rows[path] for path in paths], columns=["sha256", "reason", "detail"]).astype("str")


def hash_key(path: str, version: tuple[int, int] | None) -> str | None:
    """Return the key of the hash of a file with this size and modification time; None if it must not be stored."""
    return f"{path}\0{version}" if version and version[1] < time.time_ns() - _CLOCK_TICK_NS else None
