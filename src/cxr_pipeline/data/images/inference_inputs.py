"""Preparation of new images for a trained model."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxr_pipeline.common.errors import ImageRefused
from cxr_pipeline.data.images.recipe import Recipe

Image = NDArray[np.uint8]
# Reason and detail, because `ImageRefused` cannot be pickled and returned from a worker process.
Refusal = tuple[str, str]

_log = logging.getLogger(__name__)


def prepare_content(content: bytes, recipe: Recipe) -> Image:
    """Decode the bytes of an image file and convert it to the input of a network, uint8 [size, size].

    Raises:
        ImageRefused: the image cannot be used, or decoding failed unexpectedly.
    """
    from cxr_pipeline.data.images.dicom import check_chest

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


def prepare_files(root: Path, recipe: Recipe, paths: Sequence[str]) -> list[Image | Refusal]:
    """Prepare image files below ``root``. Refused images are replaced by their refusals."""
    from cxr_pipeline.data.images.decoding import read_bytes

    images: list[Image | Refusal] = []
    for path in paths:
        try:
            if leads_out(root, path):
                raise ImageRefused("outside_source", "a link that leads out of the folder")
            images.append(prepare_content(read_bytes(root / path), recipe))
        except ImageRefused as refusal:
            images.append((refusal.reason, refusal.detail))
    return images
