"""Files below a folder, and work on many of them."""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import track

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.image_folder import IMAGE_SUFFIXES
from cxr_pipeline.data.sources.listing import printable

Result = TypeVar("Result")

_SYSTEM_FILES = ("thumbs.db", "desktop.ini", "__macosx")
_MIN_FOR_PROGRESS_BAR = 1000


def may_be_image(path: str) -> bool:
    """Return whether a file ends like an image, or has no suffix of letters: ``1.2.840`` may be one."""
    return path.lower().endswith(IMAGE_SUFFIXES) or not has_suffix(path)


def has_suffix(path: str) -> bool:
    """Return whether a file has a suffix that starts with a letter."""
    return re.search(r"\.[A-Za-z]\w*$", path) is not None


def files_and_links_below(folder: Path, *, follow_links: bool = False) -> Iterator[str]:
    """Yield the POSIX paths below a folder of its files and, with a slash at their end, of links that are not followed.

    They are sorted in each folder. Hidden files and the files that operating systems leave behind are skipped. Links to
    folders are followed if ``follow_links``, except those to a folder that contains them.

    Raises:
        UserError: a folder cannot be listed.
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
        results = track(
            threads.map(function, paths),
            description=description,
            total=len(paths),
            console=Console(stderr=True),
            disable=len(paths) < _MIN_FOR_PROGRESS_BAR,
        )
        return list(results)


def _loops(above: str, name: str) -> bool:
    """Return whether a folder is a link to one of the folders above it, as passed on the way to it."""
    link = Path(above, name)
    return link.is_symlink() and os.path.realpath(link) in {os.path.realpath(parent) for parent in link.parents}


def _is_wanted(name: str) -> bool:
    return not name.startswith(".") and name.casefold() not in _SYSTEM_FILES
