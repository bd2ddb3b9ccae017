"""Grad-CAM heat maps of a classifier's predictions, in memory and as a folder of PNG files."""

import hashlib
import logging
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from errno import EEXIST, EISDIR, ENAMETOOLONG, ENOTDIR, ENOTEMPTY
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import PIL.Image

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.common.files import written_atomically
from cxr_pipeline.deployment.classifier import Image, ImageClassifier, Prepared, output_columns
from cxr_pipeline.evaluation.grad_cam import GradCam
from cxr_pipeline.evaluation.localisation import overlay

# File systems allow 255 bytes, and the temporary name of a file is longer than its name.
_LONGEST_NAME = 200
_LONGEST_PATH = 1000
_NAME_ERRORS = (EEXIST, EISDIR, ENAMETOOLONG, ENOTDIR, ENOTEMPTY)

_log = logging.getLogger(__name__)


class HeatMaps:
    """Draws images overlaid with heat maps of a classifier's network.

    The map explains the predicted class. If that is none or several, it explains the output whose probability exceeds
    its threshold by the largest factor.
    """

    def __init__(self, classifier: ImageClassifier) -> None:
        self._cam = GradCam(classifier.model)
        self._outputs = classifier.decision_rule.outputs

    def draw(self, prepared: Sequence[Prepared], table: pd.DataFrame) -> list[Image | None]:
        """Draw a batch, from the argument and the result of ``ImageClassifier.score_batch``.

        A picture is uint8 [size, size, 3], RGB; None for an image that is not scored.
        """
        scored = [place for place, status in enumerate(table["status"]) if status == "scored"]
        pictures: list[Image | None] = [None] * len(table)
        if scored:
            images = np.stack([np.asarray(prepared[place]) for place in scored])
            maps = self._cam.heatmaps(images, self._explained_outputs(table.iloc[scored]))
            for place, image, heatmap in zip(scored, images, maps, strict=True):
                pictures[place] = overlay(image, heatmap)
        return pictures

    def _explained_outputs(self, table: pd.DataFrame) -> np.ndarray[Any, np.dtype[np.int64]]:
        probability, threshold = (
            table[output_columns(quantity, self._outputs)].to_numpy() for quantity in ("probability", "threshold")
        )
        excess = probability / np.maximum(threshold, 1e-12)
        decided = table["decision"].map({output: place for place, output in enumerate(self._outputs)})
        return np.where(decided.isna(), excess.argmax(axis=1), decided.fillna(0)).astype(np.int64)


def map_name(image: str) -> str:
    """Return the name of an image's map: ``<image>.png``, shortened with a digest if it is too long for file systems.

    Example:
        >>> map_name("ward 1/image.dcm")
        'ward 1/image.dcm.png'
        >>> map_name(300 * "x" + ".png")[-23:]
        'xx~33c8c4f3a01362a9.png'
    """
    if len(image.encode()) > _LONGEST_PATH:
        image = f"{os.path.basename(image)[:100]}~{_digest(image)}"  # noqa: PTH119 not a path of this machine
    return "/".join(_shortened(part) for part in image.split("/")) + ".png"


def _shortened(name: str) -> str:
    if len(name.encode()) <= _LONGEST_NAME:
        return name
    return name.encode()[: _LONGEST_NAME - 17].decode("utf-8", "ignore") + f"~{_digest(name)}"


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:16]


class HeatMapFolder:
    """A folder with the heat maps of the scored images and no other files.

    ``settings`` is a digest of everything except the image that affects its map. The file ``note`` has that of the maps
    in the folder; maps of other settings are removed.
    """

    def __init__(self, classifier: ImageClassifier, folder: Path, settings: str, *, note: Path) -> None:
        self._maps = HeatMaps(classifier)
        self._folder = folder
        if not note.is_file() or note.read_text() != settings:
            shutil.rmtree(folder, ignore_errors=True)
            with written_atomically(note) as temporary:
                temporary.write_text(settings)
        self._started = _disk_time(folder)

    def keep(self, image: str) -> bool:
        """Keep the map of an image that is not scored again; return whether it exists."""
        try:
            os.utime(self._folder / map_name(image))
        except OSError:
            return False
        return True

    def write(self, names: Sequence[str], images: Sequence[Prepared], table: pd.DataFrame) -> None:
        """Write the maps of the scored images of a batch, from the arguments of `HeatMaps.draw`."""
        for name, picture in zip(names, self._maps.draw(images, table), strict=True):
            if picture is not None:
                self._write(name, picture)

    def _write(self, image: str, picture: Image) -> None:
        try:
            with written_atomically(self._folder / map_name(image)) as temporary:
                PIL.Image.fromarray(picture).save(temporary)
        except UserError as error:
            if getattr(error.__cause__, "errno", None) not in _NAME_ERRORS:
                raise
            _log.warning(
                "The heat map of %r cannot be written, because its name is not allowed: %s", image, error.__cause__
            )

    def remove_others(self) -> None:
        """Remove the maps that were neither kept nor written, because their images no longer exist or are refused."""
        for parent, _, files in os.walk(self._folder, topdown=False):
            for file in (Path(parent, name) for name in files):
                with suppress(OSError):
                    if file.stat().st_mtime_ns < self._started:
                        file.unlink()
            with suppress(OSError):  # it is not empty
                Path(parent).rmdir()


def _disk_time(folder: Path) -> int:
    """Return the time in nanoseconds by the clock of the folder's file system, which may be on another machine."""
    probe = folder / ".started"
    with written_atomically(probe) as temporary:
        now = temporary.stat().st_mtime_ns
    probe.unlink()
    return now
