"""Readers of images that are files below a folder."""

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from cxr_pipeline.common.errors import ImageRefused
from cxr_pipeline.data.images.dicom import BODY_PARTS, MODALITIES, check_chest
from cxr_pipeline.data.images.recipe import Recipe
from cxr_pipeline.data.sources.unpacking import RowReader


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
        """Read the image with a path relative to ``folder``.

        Raises:
            ImageRefused: ``outside_source``: the path or a link in it leads out of the folder; ``too_large``: above 256
                MiB; ``unreadable``: missing, not a regular file, or not readable by this user; ``not_chest``.
        """
        from cxr_pipeline.data.images.decoding import read_bytes

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
        """Return the file of an image, with links resolved.

        Raises:
            ImageRefused: ``unreadable`` or ``outside_source``.
        """
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


# Reads the images of one source; it can be pickled and sent to another process.
Reader = FileReader | RowReader
