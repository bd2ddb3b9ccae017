"""``Recipe``: the parameters that determine the pixels of a prepared image; and the preparation of new images by it."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr_pipeline.common.errors import ImageRefused
from cxr_pipeline.common.mappings import json_digest
from cxr_pipeline.data.images.decoding import decode, read_bytes
from cxr_pipeline.data.images.dicom import BODY_PARTS, MODALITIES, check_chest
from cxr_pipeline.data.images.morphology import apply_steps
from cxr_pipeline.data.images.resolution import resize

# Increase this when a change of the code changes pixels, so that images prepared by earlier versions are not used.
VERSION = 2

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recipe:
    """The parameters of image preparation: of `resolution.resize`, and the steps of `morphology.apply_steps`.

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
        """Convert the recipe to JSON types."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, description: Mapping[str, Any]) -> "Recipe":
        """Create a recipe from the result of `to_dict`."""
        return cls(**description)


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
