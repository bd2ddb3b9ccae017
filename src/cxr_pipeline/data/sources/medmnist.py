"""Layout ``medmnist``: a 2D dataset of MedMNIST (Yang et al. 2023, https://medmnist.com), with its own splits."""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import IO, BinaryIO

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.sources.listing import Listing, explained, list_rows, name_labels, printable
from cxr_pipeline.data.sources.readers import BLOCK_PIXELS, Block, RowReader, find_container, unpack
from cxr_pipeline.data.sources.table_files import check_expansion

EXPECTED = "one .npz file of a 2D dataset of MedMNIST, with train_images and train_labels, val_... or test_..."

MAX_IMAGE_BYTES = 2**26

_SUFFIXES = (".npz",)
_MAX_LABEL = 9999
_SPLITS = {"train": "train", "val": "validation", "test": "test"}


def read(folder: Path, *, labels: tuple[str, ...] = ()) -> Listing:
    """List the images of every split, named by the split and their number in it, such as ``train/00012``.

    Labels are one number per image, or columns of 0 and 1, one per label. An image without any has the labels ``""``.
    ``labels`` are their names in the order of numbers or columns; the numbers themselves if empty.

    Args:
        folder: folder of the source, or the file.
        labels: names of the labels in the order of their numbers or columns; the numbers themselves if empty.
    """
    with _opened(find_container(folder, _SUFFIXES)) as archive:
        tables = {split: _read_labels(archive, split) for split in _splits(archive)}
    widths = sorted({table.shape[1] for table in tables.values()})
    if len(widths) > 1 or (labels and widths[0] > 1 and len(labels) != widths[0]):
        raise UserError(
            f"labels: {len(labels)} names are given, but the file has {' and '.join(map(str, widths))} columns of "
            "labels. Name one label per column, in order, or none."
        )
    numbers = np.concatenate(list(tables.values()))
    n_labels = numbers.max(initial=-1) + 1 if widths[0] == 1 else widths[0]
    names = labels or tuple(map(str, range(n_labels)))
    given = [(_SPLITS[split], row) for split, table in tables.items() for row in range(len(table))]
    rows = pd.DataFrame([(f"{split}/{row:05d}", split) for split, row in given], columns=["image", "given_split"])
    rows["path"] = rows.index.astype("str")
    if widths[0] == 1:
        rows = name_labels(rows, pd.Series(numbers[:, 0]).astype("str"), names)
    else:
        rows["labels"] = ["|".join(np.compress(row, names)) for row in numbers]
    return list_rows(rows, vocabulary=names)


def reader(folder: Path, *, unpacked: Path, **options: object) -> RowReader:
    """Return a reader of the unpacked images; colour is converted to grey with the weights of ITU-R BT.601."""
    return unpack(find_container(folder, _SUFFIXES), unpacked, _blocks, how="medmnist")


def holds_images(folder: Path) -> bool:
    """Return whether the file has images of a split; nothing is decompressed."""
    with _opened(find_container(folder, _SUFFIXES)) as archive:
        return bool(_splits(archive))


@contextmanager
def _opened(file: Path | BinaryIO) -> Iterator[zipfile.ZipFile]:
    with explained(Path(file.name), EXPECTED), zipfile.ZipFile(file) as archive:
        yield archive


def _splits(archive: zipfile.ZipFile) -> list[str]:
    """Return the splits in the file, in the order in which their images are numbered."""
    members = archive.namelist()
    splits = [split for split in _SPLITS if f"{split}_images.npy" in members]
    if not splits:
        raise ValueError(f"it contains {', '.join(map(printable, members[:6])) or 'nothing'}")
    return splits


def _open_member(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    info = archive.getinfo(name)
    check_expansion(info.file_size, info.compress_size)
    return archive.open(info)


def _open_images(archive: zipfile.ZipFile, split: str) -> tuple[IO[bytes], tuple[int, ...]]:
    """Open the images of a split: a stream of their pixels, and their shape."""
    # np.load would decompress a whole split into memory, 4 GB for ChestMNIST at 224 pixels.
    stream = _open_member(archive, f"{split}_images.npy")
    np.lib.format.read_magic(stream)
    shape, columns_first, dtype = np.lib.format.read_array_header_1_0(stream)
    is_image = len(shape) == 3 or (len(shape) == 4 and shape[3] == 3)
    if not is_image or 0 in shape[1:] or dtype != np.uint8 or columns_first:
        raise ValueError(
            f"{split}_images: expected uint8 [n, height, width] or [n, height, width, 3]. Found {dtype} {shape}"
        )
    if prod(shape[1:]) > MAX_IMAGE_BYTES:
        raise ValueError(f"{split}_images: expected at most {MAX_IMAGE_BYTES >> 20} MiB an image. Found {shape}")
    return stream, shape


def _read_labels(archive: zipfile.ZipFile, split: str) -> NDArray[np.int64]:
    """Read the labels of a split, whole numbers [n, 1] or, if there are several columns, 0 and 1 [n, columns]."""
    with _open_member(archive, f"{split}_labels.npy") as stream:
        labels = np.lib.format.read_array(stream, allow_pickle=False)
    _, (n_images, *_) = _open_images(archive, split)
    if labels.dtype.kind not in "iub" or labels.ndim not in (1, 2) or len(labels) != n_images:
        raise ValueError(
            f"{split}_labels: expected whole numbers, one or one row for each of {n_images} images. "
            f"Found {labels.dtype} {labels.shape}"
        )
    table: NDArray[np.int64] = (labels[:, np.newaxis] if labels.ndim == 1 else labels).astype(np.int64)
    if table.max(initial=0) > _MAX_LABEL:
        raise ValueError(f"{split}_labels: expected numbers of labels up to {_MAX_LABEL}. Found {table.max()}")
    if table.shape[1] != 1 and not (table.shape[1] and np.isin(table, (0, 1)).all()):
        raise ValueError(f"{split}_labels has {table.shape[1]} columns; expected one, or several of 0 and 1")
    return table


def _blocks(source: BinaryIO) -> Iterator[Block]:
    sizes = set()
    with _opened(source) as archive:
        for split in _splits(archive):
            stream, (n, *size) = _open_images(archive, split)
            sizes.add((*size,))
            if len(sizes) > 1:
                raise ValueError(f"images: expected the same size in every split. Found {sorted(sizes)}")
            n_per_block = max(1, BLOCK_PIXELS // prod(size))
            for start in range(0, n, n_per_block):
                shape = (min(n_per_block, n - start), *size)
                pixels = np.frombuffer(stream.read(prod(shape)), np.uint8).reshape(shape)
                if len(size) == 3:
                    pixels = np.array([cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in pixels])
                yield pixels, {}
