"""From one file that holds all images of a source to an array on disk, once."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from io import BufferedReader, BufferedWriter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.common.files import written_atomically
from cxr_pipeline.data.sources.listing import printable

BLOCK_PIXELS = 2**21

_DIGITS = 32
_WORTH_A_PROGRESS_BAR = 2**24
_LEFTOVER_SECONDS = 3600


@dataclass(frozen=True)
class Block:
    """Some images of a container, in its order.

    Args:
        images: uint8 [n, height, width].
        faults: of rows that hold no image, numbered from the block's start, what is wrong with them.
    """

    images: NDArray[np.uint8]
    faults: Mapping[int, str] = field(default_factory=dict)


def find_container(place: Path, suffixes: Sequence[str]) -> Path:
    """Find the one file that holds the images: the place itself, or the only such file in that folder.

    Args:
        place: a file or a folder.
        suffixes: how the file's name may end, in small letters.

    Raises:
        UserError: there is none, or there are several.
    """
    try:
        inside = sorted(place.iterdir()) if place.is_dir() else [place]
        found = [file for file in inside if _is_named(file, suffixes) and file.is_file()]
    except OSError as error:
        raise UserError(f"{printable(str(place))} cannot be read: {error.strerror or error}.") from error
    if len(found) != 1:
        names = ", ".join(printable(file.name) for file in found[:5]) or "none"
        raise UserError(
            f"expected one file that ends in {' or '.join(suffixes)} at {printable(str(place))}; found {names}. "
            "Name the file itself in the source's path."
        )
    return found[0]


def unpack(container: Path, folder: Path, blocks: Callable[[BufferedReader], Iterator[Block]], *, how: str) -> Path:
    """Write the images of a container into one array, unless that was done before.

    The array is named by the content of the container and by how it is read, so that a changed container gets a
    new one. It appears whole or not at all, and two runs at once do no harm.

    Args:
        container: the file that holds the images.
        folder: the folder of unpacked images.
        blocks: yields the images, all of the same size, from the opened container; raises ``UserError`` for what it
            cannot read.
        how: whatever else decides the images, in one line.

    Returns:
        ``<folder>/<digest>.npy``, uint8 [n, height, width]; if rows hold no image, what is wrong with them is beside
        it in ``<digest>.json``.

    Raises:
        UserError: the container cannot be read, or the folder cannot be written or has no room.
    """
    try:
        source = container.open("rb")
    except OSError as error:
        raise UserError(f"{printable(str(container))} cannot be read: {error.strerror or error}.") from error
    with source:
        file = folder / f"{_digest(source, how)}.npy"
        if not file.is_file():
            _remove_leftovers(file)
            with written_atomically(file) as beside:
                faults = _write(beside, _shown(blocks(source), source, container))
                if faults:
                    with written_atomically(file.with_suffix(".json")) as table:
                        table.write_text(json.dumps(faults, separators=(",", ":")), "utf-8")
    return file


def _is_named(file: Path, suffixes: Sequence[str]) -> bool:
    return file.name.casefold().endswith(tuple(suffixes)) and not file.name.startswith(".")


def _digest(source: BufferedReader, how: str) -> str:
    digest = hashlib.file_digest(source, "sha256")
    source.seek(0)
    digest.update(how.encode())
    return digest.hexdigest()[:_DIGITS]


def _remove_leftovers(file: Path) -> None:
    """Remove what killed runs left of this array, which may be large."""
    for leftover in file.parent.glob(f".{file.stem}-*"):
        with suppress(FileNotFoundError):  # another run has put it in place
            if leftover.stat().st_mtime < time.time() - _LEFTOVER_SECONDS:
                leftover.unlink()


def _shown(blocks: Iterator[Block], source: BufferedReader, container: Path) -> Iterator[Block]:
    """Pass blocks on, and show on a progress bar how far the container is read."""
    length = container.stat().st_size
    with Progress(console=Console(stderr=True), disable=length < _WORTH_A_PROGRESS_BAR) as progress:
        bar = progress.add_task(f"Unpacking {printable(container.name)}", total=length)
        for block in blocks:
            progress.update(bar, completed=source.tell())
            yield block
        progress.update(bar, completed=length)


def _write(file: Path, blocks: Iterator[Block]) -> dict[str, str]:
    """Write blocks one by one as an array, and return what is wrong with rows, by number."""
    faults: dict[str, str] = {}
    n, shape = 0, (0, 0)
    with file.open("wb") as out:
        for block in blocks:
            if not out.tell():
                shape = block.images.shape[1:]
                _write_header(out, (0, *shape))
            out.write(np.ascontiguousarray(block.images).data)
            faults |= {str(n + row): fault for row, fault in block.faults.items()}
            n += len(block.images)
        # NumPy leaves room in a header for the first number to grow.
        out.seek(0)
        _write_header(out, (n, *shape))
    return faults


def _write_header(out: BufferedWriter, shape: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_1_0(out, {"descr": "|u1", "fortran_order": False, "shape": shape})
