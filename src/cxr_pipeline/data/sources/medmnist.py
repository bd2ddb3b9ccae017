"""Layout ``medmnist``: a 2D data set of MedMNIST (Yang et al. 2023, https://medmnist.com), whose splits are kept."""

import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from io import BufferedReader
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.sources.listing import Listing, image_table, printable, refusal_table
from cxr_pipeline.data.sources.readers import RowReader
from cxr_pipeline.data.sources.unpacking import BLOCK_PIXELS, Block, find_container, unpack

EXPECTED = "one .npz file of a 2D data set of MedMNIST: train_images and train_labels, val_... and test_... in it"

_SUFFIXES = (".npz",)
_SPLITS = {"train": "train", "val": "validation", "test": "test"}
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_DAMAGE = (OSError, EOFError, ValueError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error)


def read(folder: Path, *, labels: Sequence[str] = ()) -> Listing:
    """List the images of every split.

    An image is named by its split and its number there, such as ``train/00012``. Labels are a number an image, or a
    column of 0 and 1 a label; an image without any has the labels ``""``.

    Args:
        folder: the ``.npz`` file, or a folder with no other in it.
        labels: names of the labels, in the order of their numbers or columns; the numbers themselves if empty.

    Raises:
        UserError: the file is not there, is damaged or holds something else, or other labels than are named.
    """
    with _opened(find_container(folder, _SUFFIXES)) as archive:
        tables = {split: _labels(archive, split) for split in _splits(archive)}
    names = _names(tables, tuple(labels))
    images: list[tuple[str, str, str, str]] = []
    refused: list[tuple[str, str, str]] = []
    for split, table in tables.items():
        start = len(images) + len(refused)
        for row, text in enumerate(_texts(table, names)):
            image = f"{_SPLITS[split]}/{row:05d}"
            if text is None:
                named = f"the labels that are named are 0 to {len(names) - 1}"
                refused.append((image, "unknown_label", f"label {table[row, 0]}, but {named}"))
            else:
                images.append((image, str(start + row), text, _SPLITS[split]))
    columns = zip(*images, strict=True) if images else [[]] * 4
    return Listing(
        image_table(dict(zip(("image", "path", "labels", "given_split"), columns, strict=True))),
        refusal_table(sorted(refused)),
        vocabulary=frozenset(names),
    )


def reader(folder: Path, *, unpacked: Path, **options: object) -> RowReader:
    """Read images from the array into which they are unpacked; colour becomes grey by ITU-R BT.601.

    Raises:
        UserError: as ``read``, or the array cannot be written.
    """
    return RowReader(unpack(find_container(folder, _SUFFIXES), unpacked, _blocks, how="medmnist"))


def holds_images(folder: Path) -> bool:
    """Tell whether the file is there and has images of a split in it; nothing is decompressed."""
    with suppress(UserError), _opened(find_container(folder, _SUFFIXES)) as archive:
        return bool(_splits(archive))
    return False


@contextmanager
def _opened(file: Path | BufferedReader) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(file) as archive:
            yield archive
    except _DAMAGE as error:
        name = file.name if isinstance(file, Path) else Path(file.name).name
        raise UserError(
            f"{printable(name)} cannot be read: {error}. Expected {EXPECTED}. Download it again, or mend the source's "
            "path."
        ) from error


def _splits(archive: zipfile.ZipFile) -> list[str]:
    """List the splits that are there, in the order in which their images are numbered.

    Raises:
        ValueError: there is none.
    """
    found = [split for split in _SPLITS if f"{split}_images.npy" in archive.namelist()]
    if not found:
        raise ValueError(f"it holds {', '.join(map(printable, archive.namelist()[:6])) or 'nothing'}")
    return found


@contextmanager
def _member(archive: zipfile.ZipFile, name: str) -> Iterator[tuple[IO[bytes], tuple[int, ...], Any, bool]]:
    """Open an array of the archive: its bytes after the header, its shape, its type, and whether columns come first.

    Raises:
        ValueError: it is no array, or its length is not that of its shape.
    """
    with archive.open(f"{name}.npy") as stream:
        shape, columns_first, dtype = _HEADERS[np.lib.format.read_magic(stream)](stream)
        length, expected = archive.getinfo(f"{name}.npy").file_size - stream.tell(), prod(shape) * dtype.itemsize
        if dtype.hasobject or length != expected:
            raise ValueError(f"{name} has {length} bytes, expected {expected} for {dtype} {shape}")
        yield stream, shape, dtype, columns_first


def _labels(archive: zipfile.ZipFile, split: str) -> NDArray[Any]:
    """Read the labels of a split, whole numbers [n, 1] or, of several columns, 0 and 1 [n, columns].

    Raises:
        ValueError: they are something else, or not as many as the images.
    """
    with _member(archive, f"{split}_images") as (_, images, _, _):
        pass
    with _member(archive, f"{split}_labels") as (stream, shape, dtype, columns_first):
        flat = np.frombuffer(stream.read(), dtype)
    if dtype.kind not in "iub" or len(shape) not in (1, 2) or shape[:1] != images[:1] or 0 in shape[1:]:
        found = f"{dtype} {shape} and images {images}"
        raise ValueError(f"{split}_labels: expected as many whole numbers, or rows of them, as images. Found {found}")
    table = flat.reshape(shape, order="F" if columns_first else "C").reshape(shape[0], prod(shape[1:]))
    if table.shape[1] > 1 and not np.isin(table, (0, 1)).all():
        raise ValueError(f"{split}_labels has {table.shape[1]} columns; expected 0 and 1 in them")
    return table.astype(np.int64)


def _names(tables: Mapping[str, NDArray[Any]], named: tuple[str, ...]) -> tuple[str, ...]:
    """Name the labels: as they are named, or else by their numbers.

    Raises:
        UserError: the splits do not agree, or others are named than there are.
    """
    widths = sorted({table.shape[1] for table in tables.values()})
    if len(widths) > 1 or (named and widths[0] > 1 and len(named) != widths[0]):
        raise UserError(
            f"labels: {len(named)} labels are named, but the file has {' and '.join(map(str, widths))} columns of "
            "labels. Name one label a column, in order, or none."
        )
    if named:
        return named
    highest = max(int(table.max(initial=-1)) for table in tables.values())
    return tuple(str(number) for number in range(highest + 1 if widths[0] == 1 else widths[0]))


def _texts(table: NDArray[Any], names: Sequence[str]) -> Iterator[str | None]:
    """Yield the labels of each image, joined by ``|``; none for a number that has no name."""
    if table.shape[1] > 1:
        for row in table.astype(bool):
            yield "|".join(name for name, there in zip(names, row, strict=True) if there)
    else:
        for number in table[:, 0].tolist():
            yield names[number] if 0 <= number < len(names) else None


def _blocks(source: BufferedReader) -> Iterator[Block]:
    with _opened(source) as archive:
        splits = _splits(archive)
        size = _size(archive, splits)
        n_images = max(1, BLOCK_PIXELS // prod(size))
        for split in splits:
            with _member(archive, f"{split}_images") as (stream, (n, *_), _, _):
                for start in range(0, n, n_images):
                    shape = (min(n_images, n - start), *size)
                    pixels = np.frombuffer(stream.read(prod(shape)), np.uint8).reshape(shape)
                    yield Block(_grey(pixels) if len(size) == 3 else pixels)


def _size(archive: zipfile.ZipFile, splits: Sequence[str]) -> tuple[int, ...]:
    """Tell the size of all images, [height, width] or [height, width, 3].

    Raises:
        ValueError: they are no pictures, or of several sizes.
    """
    sizes = set()
    for split in splits:
        with _member(archive, f"{split}_images") as (_, shape, dtype, columns_first):
            sizes.add(shape[1:])
        is_picture = len(shape) == 3 or (len(shape) == 4 and shape[3] == 3)
        if not is_picture or 0 in shape[1:] or len(sizes) > 1 or dtype != np.uint8 or columns_first:
            raise ValueError(
                f"{split}_images: expected uint8 [n, height, width] or [n, height, width, 3], of the same size in "
                f"every split. Found {dtype} {shape}"
            )
    return sizes.pop()


def _grey(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Turn RGB [n, height, width, 3] into grey [n, height, width] by the weights of ITU-R BT.601."""
    import cv2

    n, height, width, _ = pixels.shape
    return np.asarray(cv2.cvtColor(pixels.reshape(n * height, width, 3), cv2.COLOR_RGB2GRAY)).reshape(n, height, width)
