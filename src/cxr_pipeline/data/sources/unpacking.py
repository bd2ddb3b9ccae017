"""Unpack the images of a source that is one file into an array store, once, and read them."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from rich import progress
from rich.console import Console

from cxr_pipeline.common.array_store import ArrayStore
from cxr_pipeline.common.errors import ImageRefused, UserError
from cxr_pipeline.common.files import written_atomically
from cxr_pipeline.data.sources.content_hashes import hash_key
from cxr_pipeline.data.sources.listing import explained, printable

BLOCK_PIXELS = 2**21

_WORTH_A_PROGRESS_BAR = 2**24
_DESCRIPTION = "description.json"

# Some images of a container, uint8 [n, height, width], and the problems of the rows of the block without an image.
Block = tuple[NDArray[np.uint8], Mapping[int, str]]


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


@dataclass(frozen=True)
class RowReader:
    """Images that are rows of an unpacked container, in a folder written by ``unpack``."""

    folder: Path

    def read(self, path: str) -> bytes:
        """Encode the row with that number as a BMP file.

        The bytes depend on the pixels only, while those of a PNG file would change with the version of a library.

        Raises:
            ImageRefused: ``unreadable``: the row does not exist or contains no image.
            UserError: the unpacked images were damaged since they were opened.
        """
        import cv2

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


def unpack(container: Path, folder: Path, blocks: Callable[[BinaryIO], Iterator[Block]], *, how: str) -> RowReader:
    """Write the images of a container into an array store, unless it already contains them, and return their reader.

    The store, below ``folder``, is named by the content of the container and by ``how`` it is read, so a changed
    container gets a new one. After a kill, the blocks that were written are kept. ``blocks`` yields the images, all of
    the same size, from the opened container; it raises ``UserError`` for content that it cannot read.

    Raises:
        UserError: the container cannot be read, or the folder cannot be written, or the disk is full.
    """
    with explained(container, "a file with images"):
        sha256 = _content_hash(container, folder / "content_hashes")
        opened = progress.open(
            container,
            "rb",
            description=f"Unpacking {printable(container.name)}",
            console=Console(stderr=True),
            disable=container.stat().st_size < _WORTH_A_PROGRESS_BAR,
        )
    reader = RowReader(folder / hashlib.sha256(f"{sha256} {how}".encode()).hexdigest()[:32])
    with opened as source:
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
    key = hash_key(str(container.resolve()), (status.st_size, status.st_mtime_ns))
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
