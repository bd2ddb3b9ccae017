"""What gives the content of a film: a file below a folder, or a row of an unpacked container."""

import json
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr_pipeline.common.errors import FilmRefused

_OPEN_CONTAINERS = 16


@dataclass(frozen=True)
class FileReader:
    """Films that are files below a folder.

    Args:
        folder: the source's folder.
    """

    folder: Path

    def read(self, path: str) -> bytes:
        """Read one film; a DICOM file must be of a chest.

        Args:
            path: POSIX path of the film, relative to ``folder``.

        Raises:
            FilmRefused: as ``read_file``, and ``not_chest``.
        """
        from cxr_pipeline.data.images.dicom import check_chest

        content = read_file(self.folder, path)
        check_chest(content)
        return content

    def n_bytes(self, path: str) -> int:
        """Tell the length of a film's file."""
        return file_length(self.folder, path)


@dataclass(frozen=True)
class RowReader:
    """Films that are rows of an unpacked container.

    Args:
        file: a ``.npy`` file, uint8 [n, height, width], as ``sources.unpacking`` writes it. Beside it may lie
            a ``.json`` file, which says of rows that hold no film what is wrong with them.
    """

    file: Path

    def read(self, path: str) -> bytes:
        """Encode one row as a BMP file, whose bytes depend on the pixels alone and on no compression library.

        Args:
            path: number of the row, from 0.

        Raises:
            FilmRefused: ``unreadable``: there is no such row, or no film in it.
        """
        import cv2

        films = self._films()
        if not path.isdecimal() or int(path) >= len(films):
            raise FilmRefused("unreadable", f"no row {path[:20]!r} among {len(films)} unpacked films")
        fault = _faults(self.file).get(path)
        if fault is not None:
            raise FilmRefused("unreadable", fault)
        return cv2.imencode(".bmp", films[int(path)])[1].tobytes()

    def n_bytes(self, path: str) -> int:
        """Tell the number of pixels of a film, which all rows share."""
        try:
            return int(self._films()[0].size)
        except (FilmRefused, IndexError):
            return 0

    def _films(self) -> NDArray[np.uint8]:
        try:
            return _open(self.file)
        except (OSError, ValueError) as error:
            raise FilmRefused("unreadable", "the unpacked films are gone or damaged") from error


def read_file(folder: Path, path: str) -> bytes:
    """Read a film's file, if neither its path nor a link in it leads out of a folder.

    Args:
        folder: the source's folder, which may itself be a link.
        path: POSIX path of the film, relative to ``folder``.

    Raises:
        FilmRefused: ``outside_source``; ``too_large`` above one gibibyte; ``unreadable``: it is not there, no
            regular file or may not be read.
    """
    from cxr_pipeline.data.images.decoding import read_bytes

    try:
        film = Path(os.path.realpath(folder / path, strict=True))
    except (OSError, ValueError) as error:
        raise FilmRefused("unreadable", getattr(error, "strerror", None) or type(error).__name__) from error
    if not film.is_relative_to(os.path.realpath(folder)):
        raise FilmRefused("outside_source", "its path or a link in it leads out of the source's folder")
    return read_bytes(film)


def file_length(folder: Path, path: str) -> int:
    """Tell the length of a file in bytes, 0 if it cannot be looked at."""
    try:
        return (folder / path).stat().st_size
    except (OSError, ValueError):
        return 0


@lru_cache(_OPEN_CONTAINERS)
def _open(file: Path) -> NDArray[np.uint8]:
    films: NDArray[np.uint8] = np.load(file, mmap_mode="r", allow_pickle=False)
    if films.ndim != 3 or films.dtype != np.uint8:
        raise ValueError(f"expected uint8 [n, height, width]. Received: {films.dtype} {films.shape}")
    return films


@lru_cache(_OPEN_CONTAINERS)
def _faults(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.with_suffix(".json").read_text("utf-8")))
    except FileNotFoundError:
        return {}
