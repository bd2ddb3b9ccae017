"""Unpack the images of a source that is one file into an array store, once."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import wrap_file

from cxr_pipeline.common.array_store import ArrayStore
from cxr_pipeline.common.errors import UserError
from cxr_pipeline.common.files import written_atomically
from cxr_pipeline.data.sources.content_hashes import hash_key
from cxr_pipeline.data.sources.listing import explained, printable

BLOCK_PIXELS = 2**21

_DIGITS = 32
_WORTH_A_PROGRESS_BAR = 2**24
_DESCRIPTION = "description.json"


# Some images of a container, uint8 [n, height, width], and the problems of the rows of the block without an image.
Block = tuple[NDArray[np.uint8], Mapping[int, str]]


def find_container(place: Path, suffixes: Sequence[str]) -> Path:
    """Find the one file with any of the suffixes (in lower case): the place itself, or the only such file in it.

    Raises:
        UserError: there is no such file, or several.
    """
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


def unpack(container: Path, folder: Path, blocks: Callable[[BinaryIO], Iterator[Block]], *, how: str) -> Path:
    """Write the images of a container into an array store, unless it already contains them.

    The store is named by the content of the container and by how it is read, so a changed container gets a new one.
    After a kill, the blocks that were written are kept.

    Args:
        container: the file that holds the images.
        folder: the folder of all unpacked images.
        blocks: yields the images, all of the same size, from the opened container; raises ``UserError`` for content
            that it cannot read.
        how: all other settings that affect the images.

    Raises:
        UserError: the container cannot be read, or the folder cannot be written, or the disk is full.
    """
    with explained(container, "a file with images"):
        sha256 = _content_hash(container, folder / "content_hashes")
        source = container.open("rb")
    target = folder / hashlib.sha256(f"{sha256} {how}".encode()).hexdigest()[:_DIGITS]
    with source:
        with suppress(OSError, ValueError, KeyError):
            images, _ = open_unpacked(target)
            if not images.missing(map(str, range(len(images)))):
                return target
        size = container.stat().st_size
        with wrap_file(
            source,
            size,
            description=f"Unpacking {printable(container.name)}",
            console=Console(stderr=True),
            disable=size < _WORTH_A_PROGRESS_BAR,
        ) as watched:
            _write(target, blocks(watched))
    return target


def open_unpacked(folder: Path) -> tuple[ArrayStore, dict[str, str]]:
    """Open what ``unpack`` wrote: uint8 [height, width] by row number, and the problems of the rows without an image.

    Raises:
        OSError, ValueError, KeyError: the folder is missing or damaged.
    """
    description = json.loads((folder / _DESCRIPTION).read_text("utf-8"))
    images = ArrayStore(folder, np.uint8, tuple(description["shape"]))
    if len(images) != description["n"]:
        raise ValueError(f"expected {description['n']} images, found {len(images)}")
    return images, description["faults"]


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
