"""Heat maps of scored images, a PNG for each."""

import hashlib
import logging
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from errno import EEXIST, EISDIR, ENAMETOOLONG, ENOTDIR, ENOTEMPTY
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr_pipeline.common.errors import ImageRefused, UserError
from cxr_pipeline.common.files import written_atomically
from cxr_pipeline.deployment.classifier import ImageClassifier, Prepared

# File systems take 255 bytes; a file that is being written has some more than its name.
_LONGEST_NAME = 200
_LONGEST_PATH = 1000
_OF_THE_NAME = (EEXIST, EISDIR, ENAMETOOLONG, ENOTDIR, ENOTEMPTY)

_log = logging.getLogger(__name__)


def map_name(image: str) -> str:
    """Name an image's map: ``<image>.png``, or, where file systems would not take that, shortened with a digest.

    Args:
        image: the image's path, as in the predictions.

    Example:
        >>> map_name("ward 1/image.dcm")
        'ward 1/image.dcm.png'
        >>> map_name(300 * "x" + ".png")[-23:]
        'xx~a4d69b8a52aa49f8.png'
    """
    if len(image.encode()) > _LONGEST_PATH:
        image = f"{os.path.basename(image)[:100]}~{_digest(image)}"  # noqa: PTH119 a name, and no path of this machine
    return "/".join(_shortened(part) for part in image.split("/")) + ".png"


def _shortened(name: str) -> str:
    if len(name.encode()) <= _LONGEST_NAME:
        return name
    return name.encode()[: _LONGEST_NAME - 17].decode("utf-8", "ignore") + f"~{_digest(name)}"


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:16]


class HeatMapFolder:
    """A folder with a map of each image that is scored, and with no other.

    Args:
        classifier: whose maps they are.
        folder: where ``map_name`` is written; removed first if its maps are not ``known`` to be this classifier's.
    """

    def __init__(self, classifier: ImageClassifier, folder: Path, *, known: bool) -> None:
        from cxr_pipeline.deployment.heatmaps import HeatMaps

        self._maps = HeatMaps(classifier)
        self._folder = folder
        if not known:
            shutil.rmtree(folder, ignore_errors=True)
        self._begun = _clock(folder)

    def keep(self, image: str) -> bool:
        """Mark the map of an image that is not scored anew; tells whether there is one."""
        try:
            os.utime(self._folder / map_name(image))
        except OSError:
            return False
        return True

    def write(self, names: Sequence[str], images: Sequence[Prepared], judged: pd.DataFrame) -> None:
        """Draw the images of one batch that were scored.

        Args:
            names: their paths, as in the predictions.
            images: what went to ``ImageClassifier.judge_batch``.
            judged: what came from it.
        """
        scored = [
            (name, image)
            for name, image, status in zip(names, images, judged["status"], strict=True)
            if status == "scored" and not isinstance(image, ImageRefused)
        ]
        drawn = self._maps.draw([image for _, image in scored], judged[judged["status"] == "scored"])
        for (name, _), picture in zip(scored, drawn, strict=True):
            self._write(name, picture)

    def _write(self, image: str, picture: NDArray[np.uint8]) -> None:
        from PIL import Image

        try:
            with written_atomically(self._folder / map_name(image)) as beside:
                Image.fromarray(picture).save(beside)
        except UserError as error:
            if getattr(error.__cause__, "errno", None) not in _OF_THE_NAME:
                raise
            _log.warning("No heat map of %r is written, since a file cannot be named so: %s", image, error.__cause__)

    def remove_others(self) -> None:
        """Remove the maps of images that are gone, or that are refused now."""
        for parent, _, files in os.walk(self._folder, topdown=False):
            for file in (Path(parent, name) for name in files):
                with suppress(OSError):
                    if file.stat().st_mtime_ns < self._begun:
                        file.unlink()
            with suppress(OSError):  # there are files in it
                Path(parent).rmdir()


def _clock(folder: Path) -> int:
    """The time on the clock of the folder's disk, nanoseconds."""
    with written_atomically(folder / ".begun") as beside:
        beside.touch()
        now = beside.stat().st_mtime_ns
    (folder / ".begun").unlink()
    return now
