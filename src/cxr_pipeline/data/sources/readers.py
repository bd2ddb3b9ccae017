"""Readers of the images of a source, unpacking of sources that are one file, and content hashes of images."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr_pipeline.common.array_store import ArrayStore
from cxr_pipeline.common.errors import ImageRefused, UserError
from cxr_pipeline.common.files import written_atomically
from cxr_pipeline.common.progress import open_with_progress
from cxr_pipeline.data.images.decoding import read_bytes
from cxr_pipeline.data.images.dicom import BODY_PARTS, MODALITIES, check_chest
from cxr_pipeline.data.images.recipe import Recipe
from cxr_pipeline.data.sources.folders import map_in_threads
from cxr_pipeline.data.sources.listing import explained, printable

BLOCK_PIXELS = 2**21

_DESCRIPTION = "description.json"

# Some images of a container, uint8 [n, height, width], and the problems of the rows of the block without an image.
Block = tuple[NDArray[np.uint8], Mapping[int, str]]
# A file may change again within one tick of its file system's clock, keeping its size and modification time. As git
# does (https://git-scm.com/docs/racy-git), hashes of files that changed within the last tick are not stored. Two
# seconds is the tick of FAT, the longest.
_CLOCK_TICK_NS = 2 * 10**9


@dataclass(frozen=True)
class FileReader:
    """Images that are files below a folder, which may be a link.

    Of DICOM files, only those with these values of Modality and Body Part Examined are accepted. Links out of the
    folder are refused unless ``follow_links``.
    """

    folder: Path
    modalities: tuple[str, ...] = MODALITIES
    body_parts: tuple[str, ...] = BODY_PARTS
    follow_links: bool = False

    def read(self, path: str) -> bytes:
        """Read the image with a path relative to ``folder``; refuse it as `resolve`, `read_bytes` and `check_chest`."""
        content = read_bytes(self.resolve(path))
        check_chest(content, modalities=self.modalities, body_parts=self.body_parts)
        return content

    def version(self, path: str) -> tuple[int, int] | None:
        """Return the size of an image in bytes and its modification time in ns; None if its file is not accessible."""
        with suppress(ImageRefused, OSError):
            status = self.resolve(path).stat()
            return status.st_size, status.st_mtime_ns
        return None

    def resolve(self, path: str) -> Path:
        """Return the file of an image, with links resolved; refuse it as ``unreadable`` or ``outside_source``."""
        try:
            file = Path(os.path.realpath(self.folder / path, strict=True))
        except (OSError, ValueError) as error:
            raise ImageRefused("unreadable", getattr(error, "strerror", None) or type(error).__name__) from error
        place, folder = file, os.path.realpath(self.folder)
        if self.follow_links:
            place, folder = Path(os.path.normpath(self.folder / path)), os.path.normpath(self.folder)
        if not place.is_relative_to(folder):
            detail = "its path or a link in it leads out of the source's folder (links: see follow_links)"
            raise ImageRefused("outside_source", detail)
        return file


@dataclass(frozen=True)
class RowReader:
    """Images that are rows of an unpacked container, in a folder written by ``unpack``."""

    folder: Path

    def read(self, path: str) -> bytes:
        """Encode the row with that number as a BMP file; refuse a row without an image as ``unreadable``.

        The bytes depend on the pixels only, while those of a PNG file would change with the version of a library.
        """
        images, faults = self._open()
        if path not in images:
            raise ImageRefused("unreadable", f"no row {path[:20]!r} among {len(images)} unpacked images")
        if path in faults:
            raise ImageRefused("unreadable", faults[path])
        return cv2.imencode(".bmp", images.read([path])[0])[1].tobytes()

    def version(self, path: str) -> tuple[int, int] | None:
        """Return the number of pixels and 0, because the folder is named after its content; None if it is missing."""
        with suppress(ImageRefused):
            return int(np.prod(self._open()[0].shape)), 0
        return None

    def _open(self) -> tuple[ArrayStore, dict[str, str]]:
        try:
            return _open_once(self.folder)
        except (OSError, ValueError, KeyError) as error:
            raise ImageRefused("unreadable", "the unpacked images are missing or damaged") from error


# Reads the images of one source; it can be pickled and sent to another process.
Reader = FileReader | RowReader


def file_reader(folder: Path, *, follow_links: bool = False, **_: object) -> FileReader:
    """Return the reader of a layout whose images are files below ``folder``."""
    return FileReader(folder, follow_links=follow_links)


def accepting(recipe: Recipe, readers: Iterable["Reader"]) -> Recipe:
    """Return a recipe that accepts the DICOM images that any of the readers accepts.

    Example:
        >>> readers = [FileReader(Path(), ("CR",), ("CHEST",)), FileReader(Path(), ("CR", "RF"), ())]
        >>> accepted = accepting(Recipe(size=224, mode="fit", max_megapixels=100), readers)
        >>> accepted.modalities, accepted.body_parts
        (('CR', 'RF'), ())
    """
    files = [reader for reader in readers if isinstance(reader, FileReader)] or [FileReader(Path())]
    accepted: dict[str, Any] = {}
    for name in ("modalities", "body_parts"):
        lists = [getattr(reader, name) for reader in files]
        # An empty list accepts any.
        accepted[name] = () if () in lists else tuple(dict.fromkeys(chain.from_iterable(lists)))
    return replace(recipe, **accepted)


def content_hashes(reader: Reader, paths: Sequence[str], *, cache: Path | None = None) -> pd.DataFrame:
    """Return ``sha256`` (64 hexadecimal digits), ``reason`` and ``detail`` of images, in the order of ``paths``.

    Refused and empty images have no ``sha256``; all others have no ``reason``. The hash in the folder ``cache`` is used
    if the size and modification time of the file have not changed.
    """
    rows: dict[str, tuple[str | None, str | None, str | None]] = {}
    keys: dict[str, str] = {}
    if cache:
        # Its options decide which images a reader refuses, so each combination of folder and options has its own.
        stored = ArrayStore(cache / hashlib.sha256(repr(reader).encode()).hexdigest()[:32], "S64")
        versions = map_in_threads(reader.version, paths, description="Looking for changes")
        keys = {path: key for path, version in zip(paths, versions, strict=True) if (key := _hash_key(path, version))}
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


def _hash_key(path: str, version: tuple[int, int] | None) -> str | None:
    """Return the key of the hash of a file with this size and modification time; None if it must not be stored."""
    return f"{path}\0{version}" if version and version[1] < time.time_ns() - _CLOCK_TICK_NS else None


def find_container(place: Path, suffixes: Sequence[str]) -> Path:
    """Find the one file with any of the suffixes (in lower case): the place itself, or the only such file in it."""
    expected = f"one file that ends in {' or '.join(suffixes)}"
    with explained(place, expected):
        inside = sorted(place.iterdir()) if place.is_dir() else [place]
        visible = [file for file in inside if file.is_file() and not file.name.startswith(".")]
    files = [file for file in visible if file.name.casefold().endswith(tuple(suffixes))]
    if len(files) != 1:
        names = ", ".join(printable(file.name) for file in files[:5]) or "none"
        raise UserError(
            f"expected {expected} at {printable(str(place))}; found {names}. Name the file itself in the source's path."
        )
    return files[0]


def unpack(container: Path, folder: Path, blocks: Callable[[BinaryIO], Iterator[Block]], *, how: str) -> RowReader:
    """Write the images of a container into an array store, unless it already contains them, and return their reader.

    The store, below ``folder``, is named by the content of the container and by ``how`` it is read, so a changed
    container gets a new one. After a kill, the blocks that were written are kept. ``blocks`` yields the images, all of
    the same size, from the opened container; it raises ``UserError`` for content that it cannot read.
    """
    with explained(container, "a file with images"):
        sha256 = _content_hash(container, folder / "content_hashes")
    reader = RowReader(folder / hashlib.sha256(f"{sha256} {how}".encode()).hexdigest()[:32])
    with open_with_progress(container, f"Unpacking {printable(container.name)}") as source:
        with suppress(OSError, ValueError, KeyError):
            images, _ = _open_unpacked(reader.folder)
            if not images.missing(map(str, range(len(images)))):
                return reader
        _write(reader.folder, blocks(source))
    return reader


def _open_unpacked(folder: Path) -> tuple[ArrayStore, dict[str, str]]:
    """Open images, uint8 [height, width] by row number, and the problems of the rows without an image."""
    description = json.loads((folder / _DESCRIPTION).read_text("utf-8"))
    images = ArrayStore(folder, np.uint8, tuple(description["shape"]))
    if len(images) != description["n"]:
        raise ValueError(f"expected {description['n']} images, found {len(images)}")
    return images, description["faults"]


_open_once = lru_cache(maxsize=16)(_open_unpacked)


def _content_hash(container: Path, cache: Path) -> str:
    """Return the SHA-256 of a container, which is read only if its size or modification time has changed."""
    status, stored = container.stat(), ArrayStore(cache, "S64")
    key = _hash_key(str(container.resolve()), (status.st_size, status.st_mtime_ns))
    if key and not stored.missing([key]):
        return str(stored.read([key])[0].decode())
    with container.open("rb") as source:
        sha256 = hashlib.file_digest(source, "sha256").hexdigest()
    if key:
        stored.write([key], np.array([sha256], "S64"))
    return sha256


def _write(folder: Path, blocks: Iterator[Block]) -> None:
    """Write each block as a shard, and then the description, which marks the images as complete."""
    n, shape = 0, (0, 0)
    faults: dict[str, str] = {}
    for pixels, block_faults in blocks:
        shape = pixels.shape[1:]
        images = ArrayStore(folder, np.uint8, shape)
        rows = [str(n + row) for row in range(len(pixels))]
        if images.missing(rows):
            images.write(rows, pixels)
        faults |= {str(n + row): fault for row, fault in block_faults.items()}
        n += len(rows)
    with written_atomically(folder / _DESCRIPTION) as beside:
        description = {"n": n, "shape": shape, "faults": faults}
        beside.write_text(json.dumps(description, separators=(",", ":")), "utf-8")
