"""Files and images below a folder, and work on many of them."""

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from heapq import nsmallest
from pathlib import Path
from typing import TypeVar

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.common.progress import track
from cxr_pipeline.data.images.recipe import leads_out
from cxr_pipeline.data.sources.listing import printable

Result = TypeVar("Result")

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".dcm", ".dicom")

_SYSTEM_FILES = ("thumbs.db", "desktop.ini", "__macosx")


@dataclass(frozen=True)
class ImageFolder:
    """The paths of the images below a folder, itself without links, as given by the operating system, and sorted.

    Hidden files and folders are skipped. Links to folders are not followed: a link that leads out of the folder is
    listed itself, as is a subfolder that cannot be read, so that scoring refuses it by name. Only the names of one
    folder per level are in memory at a time.

    Example:
        >>> for name in ("b.png", "a.png", "notes.txt"):
        ...     (tmp_path / name).touch()
        >>> list(ImageFolder(tmp_path))
        ['a.png', 'b.png']
    """

    root: Path

    def __iter__(self) -> Iterator[str]:
        pending = self._entries("")[::-1]
        while pending:
            entry = pending.pop()
            if entry.endswith("/"):
                pending.extend(reversed(self._entries(entry)))
            else:
                yield entry

    def sample(self, at_most: int, *, seed: int) -> list[str]:
        """Return a random sample of the images, in no particular order.

        A hash of each path and the seed decides: when images are added, they replace only some of the sample.
        """

        def key(path: str) -> bytes:
            return hashlib.blake2b(b"%d %s" % (seed, os.fsencode(path)), digest_size=8).digest()

        return nsmallest(at_most, self, key=key)

    def _entries(self, folder: str) -> list[str]:
        """Return the images of one folder and, with a slash at their end, its subfolders, in the order of all paths."""
        found: list[str] = []
        try:
            with os.scandir(os.path.join(self.root, folder)) as entries:  # noqa: PTH118 Path is slow for many images
                for entry in entries:
                    path = f"{folder}{entry.name}"
                    if entry.name.startswith("."):
                        continue
                    if _is_folder(entry):
                        if not entry.is_symlink():
                            found.append(f"{path}/")
                        elif leads_out(self.root, path):
                            found.append(path)
                    elif entry.name.lower().endswith(IMAGE_SUFFIXES):
                        found.append(path)
        except OSError:
            return [folder.rstrip("/")]
        return sorted(found, key=os.fsencode)


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


def may_be_image(path: str) -> bool:
    """Return whether a file ends like an image, or has no suffix of letters: ``1.2.840`` may be one."""
    return path.lower().endswith(IMAGE_SUFFIXES) or not has_suffix(path)


def has_suffix(path: str) -> bool:
    """Return whether a file has a suffix that starts with a letter."""
    return re.search(r"\.[A-Za-z]\w*$", path) is not None


def files_and_links_below(folder: Path, *, follow_links: bool = False) -> Iterator[str]:
    """Yield the POSIX paths below a folder of its files and, with a slash at their end, of links that are not followed.

    They are sorted in each folder. Hidden files and the files that operating systems leave behind are skipped. Links to
    folders are followed if ``follow_links``, except those to a folder that contains them. `UserError` is raised for a
    folder that cannot be listed.
    """

    def fail(error: OSError) -> None:
        place = printable(str(error.filename or folder))
        raise UserError(
            f"the folder {place} cannot be listed: {error.strerror}. Check the path of the source and its permissions."
        ) from error

    for above, folders, files in os.walk(folder, onerror=fail, followlinks=follow_links):
        folders[:] = sorted(name for name in folders if _is_wanted(name) and not (follow_links and _loops(above, name)))
        links = [] if follow_links else [name for name in folders if Path(above, name).is_symlink()]
        prefix = f"{os.path.relpath(above, folder).replace(os.sep, '/')}/".removeprefix("./")
        yield from (prefix + name for name in sorted(filter(_is_wanted, files)))
        yield from (f"{prefix}{name}/" for name in links)


def files_below(folder: Path, *, follow_links: bool = False) -> Iterator[str]:
    """Yield the POSIX paths of the files below a folder, relative to it; names that are not UTF-8 are skipped."""
    paths = files_and_links_below(folder, follow_links=follow_links)
    return (path for path in paths if not path.endswith("/") and printable(path) == path)


def holds_images(folder: Path) -> bool:
    """Return whether there may be an image, or a link to a folder, below a folder; stops at the first one."""
    return any(map(may_be_image, files_and_links_below(folder)))


def map_in_threads(function: Callable[[str], Result], paths: Sequence[str], *, description: str) -> list[Result]:
    """Apply a function to many paths on as many threads as there are cores, with a progress bar."""
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as threads:
        return list(track(threads.map(function, paths), description, len(paths)))


def _loops(above: str, name: str) -> bool:
    """Return whether a folder is a link to one of the folders above it, as passed on the way to it."""
    link = Path(above, name)
    return link.is_symlink() and os.path.realpath(link) in {os.path.realpath(parent) for parent in link.parents}


def _is_wanted(name: str) -> bool:
    return not name.startswith(".") and name.casefold() not in _SYSTEM_FILES
