"""Images below a folder, listed without loading all names into memory."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from heapq import nsmallest
from pathlib import Path

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.images.recipe import leads_out

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".dcm", ".dicom")


@dataclass(frozen=True)
class ImageFile:
    """An image or a link to one, with its path below the folder as given by the operating system."""

    path: str
    link: bool

    @property
    def name(self) -> str:
        r"""Return the path as text; bytes that are not UTF-8 are written as ``\xff``."""
        return os.fsencode(self.path).decode("utf-8", "backslashreplace")


@dataclass(frozen=True)
class ImageFolder:
    """The images below a folder, without links in its path, and its subfolders, sorted by path.

    Hidden files and folders are skipped. Links to folders are not followed: a link that leads out of the folder is
    listed itself, as is a subfolder that cannot be read, so that scoring refuses it by name. Only the names of one
    folder per level are in memory at a time.

    Example:
        >>> for name in ("b.png", "a.png", "notes.txt"):
        ...     (tmp_path / name).touch()
        >>> [image.path for image in ImageFolder(tmp_path)]
        ['a.png', 'b.png']
    """

    root: Path

    def __iter__(self) -> Iterator[ImageFile]:
        pending: list[ImageFile | str] = [""]
        while pending:
            entry = pending.pop()
            if isinstance(entry, ImageFile):
                yield entry
            else:
                pending.extend(reversed(self._entries(entry)))

    def sample(self, at_most: int, *, seed: int) -> list[ImageFile]:
        """Return a random sample of the images, in no particular order.

        A hash of each path and the seed decides: when images are added, they replace only some of the sample.
        """

        def key(image: ImageFile) -> bytes:
            return hashlib.blake2b(b"%d %s" % (seed, os.fsencode(image.path)), digest_size=8).digest()

        return nsmallest(at_most, self, key=key)

    def _entries(self, folder: str) -> list[ImageFile | str]:
        """Return the images of one folder and the paths of its subfolders, in the order of all paths."""
        found: dict[bytes, ImageFile | str] = {}
        try:
            with os.scandir(os.path.join(self.root, folder)) as entries:  # noqa: PTH118 Path is slow for many images
                for entry in entries:
                    path = f"{folder}/{entry.name}" if folder else entry.name
                    if entry.name.startswith("."):
                        continue
                    if _is_folder(entry):
                        if not entry.is_symlink():
                            # With a slash, because "a/1.png" comes after "a-1.png".
                            found[os.fsencode(f"{path}/")] = path
                        elif leads_out(self.root, path):
                            found[os.fsencode(path)] = ImageFile(path, link=True)
                    elif entry.name.lower().endswith(IMAGE_SUFFIXES):
                        found[os.fsencode(path)] = ImageFile(path, link=entry.is_symlink())
        except OSError:
            return [ImageFile(folder, link=False)]
        return [found[key] for key in sorted(found)]


def find_images(folder: str | None, *, key: str) -> ImageFolder:
    """Open the folder of images that a user has given as the parameter ``key``; `UserError` if there are none."""
    advice = f"Set the folder of images: --params {key}=DIR"
    if not folder:
        raise UserError(f"No folder of images is given: {key} is null. {advice}")
    root = Path(os.path.realpath(Path(folder).expanduser()))
    try:
        os.scandir(root).close()
    except OSError as error:
        raise UserError(f"The folder {root} ({key}) cannot be read: {error.strerror}. {advice}") from error
    images = ImageFolder(root)
    if next(iter(images), None) is None:
        raise UserError(
            f"There are no images below {root} ({key}). Expected files ending in {', '.join(IMAGE_SUFFIXES)}. {advice}"
        )
    return images


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
