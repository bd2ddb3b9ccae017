"""``Recipe``: the parameters that determine the pixels of a prepared image; resizing; preparation of new images."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cxr_pipeline.common.errors import ImageRefused
from cxr_pipeline.common.mappings import json_digest
from cxr_pipeline.data.images.decoding import decode, read_bytes
from cxr_pipeline.data.images.dicom import BODY_PARTS, MODALITIES, check_chest
from cxr_pipeline.data.images.morphology import apply_steps

# Increase this when a change of the code changes pixels, so that images prepared by earlier versions are not used.
VERSION = 2

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recipe:
    """The parameters of image preparation: of `resize`, and the steps of `morphology.apply_steps`.

    Images above ``max_megapixels`` are refused, as are new DICOM images whose Modality or Body Part Examined the
    sources of the training images would not accept. This changes no pixels and is not part of the digest.
    """

    size: int
    mode: str
    max_megapixels: float
    steps: tuple[Mapping[str, Any], ...] = ()
    modalities: tuple[str, ...] = MODALITIES
    body_parts: tuple[str, ...] = BODY_PARTS

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", tuple(dict(step) for step in self.steps))
        for name in ("modalities", "body_parts"):
            object.__setattr__(self, name, tuple(getattr(self, name)))

    @cached_property
    def digest(self) -> str:
        """16 hexadecimal digits that identify the pixels that this recipe produces from an image."""
        parameters = {"version": VERSION, "size": self.size, "mode": self.mode, "steps": self.steps}
        return json_digest(parameters)[:16]

    def prepare(self, content: bytes, *, note: Callable[[str], object] | None = None) -> NDArray[np.uint8]:
        """Decode, resize and enhance the bytes of an image file to uint8 [size, size]; see `decoding.decode`."""
        image = decode(content, max_megapixels=self.max_megapixels, note=note)
        return apply_steps(resize(image, size=self.size, mode=self.mode), self.steps)

    def to_dict(self) -> dict[str, Any]:
        """Convert the recipe to JSON types, from which ``Recipe(**description)`` creates it again."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def resize(image: NDArray[np.uint8], *, size: int, mode: str) -> NDArray[np.uint8]:
    """Resize an image, uint8 [height, width], to ``size`` x ``size`` pixels; one of that size is not copied.

    The mode ``fit`` keeps the aspect ratio, centres the image and pads with black; ``stretch`` does not.

    Example:
        >>> resize(np.full((64, 32), 9, np.uint8), size=4, mode="fit")
        array([[0, 9, 9, 0],
               [0, 9, 9, 0],
               [0, 9, 9, 0],
               [0, 9, 9, 0]], dtype=uint8)
    """
    if mode not in ("fit", "stretch"):
        raise ValueError(f"mode must be one of fit, stretch. Received: mode={mode}")
    height, width = image.shape
    if mode == "stretch":
        return _resample(image, size, size)
    scale = size / max(height, width)
    new_width, new_height = max(1, round(width * scale)), max(1, round(height * scale))
    resized = _resample(image, new_width, new_height)
    if resized.shape == (size, size):
        return resized
    left, top = (size - new_width) // 2, (size - new_height) // 2
    borders = (top, size - new_height - top, left, size - new_width - left)
    return np.asarray(cv2.copyMakeBorder(resized, *borders, cv2.BORDER_CONSTANT, value=0), dtype=np.uint8)


def _resample(image: NDArray[np.uint8], new_width: int, new_height: int) -> NDArray[np.uint8]:
    """Average over areas along each side that shrinks, then interpolate linearly along each that grows."""
    height, width = image.shape
    shrunk_width, shrunk_height = min(width, new_width), min(height, new_height)
    # Averaging by whole factors first is several times faster. At least a factor of two is left to the second average.
    # With less, the two averages blur: from 1024 to 224 pixels by 4 and then by 1.14 keeps 69 % of the contrast of a
    # grating of 0.3 cycles a pixel, by 2 and then by 2.29 keeps 82 %, and a single average 85 %.
    across, down = _whole_factor(width, shrunk_width), _whole_factor(height, shrunk_height)
    for new, method in (
        ((width // across, height // down), cv2.INTER_AREA),
        ((shrunk_width, shrunk_height), cv2.INTER_AREA),
        ((new_width, new_height), cv2.INTER_LINEAR),
    ):
        if image.shape[::-1] != new:
            image = np.asarray(cv2.resize(image, new, interpolation=method), dtype=np.uint8)
    return image


def _whole_factor(length: int, new_length: int) -> int:
    return max(factor for factor in range(1, max(2, length // (2 * new_length) + 1)) if length % factor == 0)


def prepare_content(content: bytes, recipe: Recipe) -> NDArray[np.uint8]:
    """Convert the bytes of a new image file to the input of a network, uint8 [size, size], or refuse it."""
    try:
        check_chest(content, modalities=recipe.modalities, body_parts=recipe.body_parts)
        return recipe.prepare(content)
    except ImageRefused:
        raise
    except MemoryError:
        raise ImageRefused("too_large", "not enough memory to decode it") from None
    except Exception as error:  # one image must not fail the others of the same request or folder
        # Without the message, which may quote the patient's name.
        _log.warning("An image is refused because it could not be decoded: %s", type(error).__name__)
        raise ImageRefused("unreadable", f"could not be decoded: {type(error).__name__}") from None


def leads_out(root: Path, path: str) -> bool:
    """Return whether ``path`` below ``root`` leads outside of ``root``. ``root`` must not contain links."""
    return not Path(os.path.realpath(root / path)).is_relative_to(root)


def prepare_files(root: Path, recipe: Recipe, paths: Sequence[str]) -> list[NDArray[np.uint8] | ImageRefused]:
    """Prepare new image files below ``root``. Refused images are replaced by their refusals."""
    images: list[NDArray[np.uint8] | ImageRefused] = []
    for path in paths:
        try:
            if leads_out(root, path):
                raise ImageRefused("outside_source", "a link that leads out of the folder")
            images.append(prepare_content(read_bytes(root / path), recipe))
        except ImageRefused as refusal:
            images.append(refusal)
    return images
