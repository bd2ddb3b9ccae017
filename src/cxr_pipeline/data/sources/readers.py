"""What gives the content of an image: a file below a folder, or a row of an unpacked container."""

import json
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr_pipeline.common.errors import ImageRefused

_OPEN_CONTAINERS = 16


@dataclass(frozen=True)
class FileReader:
    """Images that are files below a folder.

    Args:
        folder: the source's folder.
    """

    folder: Path

    def read(self, path: str) -> bytes:
        """Read one image; a DICOM file must be of a chest.

        Args:
            path: POSIX path of the image, relative to ``folder``.

        Raises:
            ImageRefused: as ``read_file``, and ``not_chest``.
        """
        from cxr_pipeline.data.images.dicom import check_chest

        content = read_file(self.folder, path)
        check_chest(content)
        return content

    def n_bytes(self, path: str) -> int:
        """Tell the length of an image's file."""
        return file_length(self.folder, path)


@dataclass(frozen=True)
class RowReader:
    """Images that are rows of an unpacked container.

    Args:
        file: a ``.npy`` file, uint8 [n, height, width], as ``sources.unpacking`` writes it. Beside it may lie
            a ``.json`` file, which says of rows that hold no image what is wrong with them.
    """

    file: Path

    def read(self, path: str) -> bytes:
        """Encode one row as a BMP file, whose bytes depend on the pixels alone and on no compression library.

        Args:
            path: number of the row, from 0.

        Raises:
            ImageRefused: ``unreadable``: there is no such row, or no image in it.
        """
        import cv2

        images = self._images()
        if not path.isdecimal() or int(path) >= len(images):
            raise ImageRefused("unreadable", f"no row {path[:20]!r} among {len(images)} unpacked images")
        fault = _faults(self.file).get(path)
        if fault is not None:
            raise ImageRefused("unreadable", fault)
        return cv2.imencode(".bmp", images[int(path)])[1].tobytes()

    def n_bytes(self, path: str) -> int:
        """Tell the number of pixels of an image, which all rows share."""
        try:
            return int(self._images()[0].size)
        except (ImageRefused, IndexError):
            return 0

    def _images(self) -> NDArray[np.uint8]:
        try:
            return _open(self.file)
        except (OSError, ValueError) as error:
            raise ImageRefused("unreadable", "the unpacked images are gone or damaged") from error


def read_file(folder: Path, path: str) -> bytes:
    """Read an image's file, if neither its path nor a link in it leads out of a folder.

    Args:
        folder: the source's folder, which may itself be a link.
        path: POSIX path of the image, relative to ``folder``.

    Raises:
        ImageRefused: ``outside_source``; ``too_large`` above one gibibyte; ``unreadable``: it is not there, no
            regular file or may not be read.
    """
    from cxr_pipeline.data.images.decoding import read_bytes

    try:
        image = Path(os.path.realpath(folder / path, strict=True))
    except (OSError, ValueError) as error:
        raise ImageRefused("unreadable", getattr(error, "strerror", None) or type(error).__name__) from error
    if not image.is_relative_to(os.path.realpath(folder)):
        raise ImageRefused("outside_source", "its path or a link in it leads out of the source's folder")
    return read_bytes(image)


def file_length(folder: Path, path: str) -> int:
    """Tell the length of a file in bytes, 0 if it cannot be looked at."""
    try:
        return (folder / path).stat().st_size
    except (OSError, ValueError):
        return 0


@lru_cache(_OPEN_CONTAINERS)
def _open(file: Path) -> NDArray[np.uint8]:
    images: NDArray[np.uint8] = np.load(file, mmap_mode="r", allow_pickle=False)
    if images.ndim != 3 or images.dtype != np.uint8:
        raise ValueError(f"expected uint8 [n, height, width]. Received: {images.dtype} {images.shape}")
    return images


@lru_cache(_OPEN_CONTAINERS)
def _faults(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.with_suffix(".json").read_text("utf-8")))
    except FileNotFoundError:
        return {}
