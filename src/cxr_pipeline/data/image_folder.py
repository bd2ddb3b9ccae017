"""The images below a folder, found as they are asked for."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from heapq import nsmallest
from pathlib import Path

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.images.inference_inputs import leads_out

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".dcm", ".dicom")


@dataclass(frozen=True)
class ImageFile:
    """What stands for an image in its folder.

    Args:
        path: below the folder, as the operating system gives it.
        link: whether it is a link.
    """

    path: str
    link: bool

    @property
    def name(self) -> str:
        r"""The path as text that can be written anywhere; bytes that are no UTF-8 become ``\xff``."""
        return os.fsencode(self.path).decode("utf-8", "backslashreplace")


@dataclass(frozen=True)
class ImageFolder:
    """The images below a folder, those in its subfolders too, sorted by path.

    Hidden files and folders are passed over. Links to folders are not followed: one that leads out of the
    folder is given itself, as is a subfolder that cannot be read, so that scoring refuses it by name.
    In memory are the names of one folder of each level, however many images there are.

    Args:
        root: the folder, without links in its path.
    """

    root: Path

    def __iter__(self) -> Iterator[ImageFile]:
        levels = [iter(self._entries(""))]
        while levels:
            entry = next(levels[-1], None)
            if entry is None:
                levels.pop()
            elif isinstance(entry, ImageFile):
                yield entry
            else:
                levels.append(iter(self._entries(entry)))

    def count(self) -> int:
        """How many images there are now."""
        return sum(1 for _ in self)

    def sample(self, at_most: int, *, seed: int) -> list[ImageFile]:
        """Draw images by lot, at most so many, in no order.

        A lot belongs to an image's path: as images come, those drawn before are drawn again or give way to new ones.

        Args:
            at_most: images to draw.
            seed: of the lots.
        """

        def lot(image: ImageFile) -> bytes:
            return hashlib.blake2b(b"%d %s" % (seed, os.fsencode(image.path)), digest_size=8).digest()

        return nsmallest(at_most, self, key=lot)

    def _entries(self, below: str) -> list[ImageFile | str]:
        """The images of one folder, and the paths of its subfolders, in the order of all paths."""
        found: list[tuple[bytes, ImageFile | str]] = []
        try:
            with os.scandir(os.path.join(self.root, below)) as entries:  # noqa: PTH118 a Path for each image costs
                for entry in entries:
                    path = f"{below}/{entry.name}" if below else entry.name
                    if entry.name.startswith("."):
                        continue
                    if _is_folder(entry):
                        if not entry.is_symlink():
                            found.append((os.fsencode(f"{path}/"), path))
                        elif leads_out(self.root, path):
                            found.append((os.fsencode(path), ImageFile(path, link=True)))
                    elif entry.name.lower().endswith(IMAGE_SUFFIXES):
                        found.append((os.fsencode(path), ImageFile(path, link=entry.is_symlink())))
        except OSError:
            return [ImageFile(below, link=False)]
        return [entry for _, entry in sorted(found, key=lambda named: named[0])]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def find_images(folder: str | None, *, key: str) -> ImageFolder:
    """Open a folder of images.

    Args:
        folder: as the user typed it.
        key: the parameter that it came from, for messages.

    Raises:
        UserError: no folder is given, it is not there or cannot be read, or it holds no images.
    """
    what_to_type = f"Name the folder that holds the images: --params {key}=DIR"
    if not folder:
        raise UserError(f"No folder of images to score is given: {key} is null. {what_to_type}")
    root = Path(os.path.realpath(Path(folder).expanduser()))
    if not root.is_dir():
        found = "a file" if root.exists() else "nothing"
        raise UserError(f"{key} must name a folder of images; found {found} at {root}. {what_to_type}")
    try:
        os.scandir(root).close()
    except OSError as error:
        raise UserError(f"The folder {root} ({key}) cannot be read: {error.strerror}. {what_to_type}") from error
    images = ImageFolder(root)
    if next(iter(images), None) is None:
        raise UserError(
            f"No image is below {root} ({key}): expected files that end in {', '.join(IMAGE_SUFFIXES)}. {what_to_type}"
        )
    return images
