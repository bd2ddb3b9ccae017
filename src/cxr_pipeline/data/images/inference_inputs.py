"""Images that come to a model that is in use: from a folder or from a client, no source, no labels."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxr_pipeline.common.errors import ImageRefused
from cxr_pipeline.data.images.recipe import Recipe

Image = NDArray[np.uint8]
# The reason and the detail of a refusal; unlike an exception, they come whole out of another process.
Refusal = tuple[str, str]

_log = logging.getLogger(__name__)


def prepare_content(content: bytes, recipe: Recipe) -> Image:
    """Turn the bytes of an image's file into a network's input.

    Returns:
        uint8 [size, size].

    Raises:
        ImageRefused: it cannot be used, or a decoder fails over it in a way that is not foreseen.
    """
    from cxr_pipeline.data.images.dicom import check_chest

    try:
        check_chest(content)
        image = recipe.decode(content)
    except ImageRefused:
        raise
    except MemoryError:
        raise ImageRefused("too_large", "there is no memory for its pixels") from None
    except Exception as error:  # one image must not fail those that come with it
        _log.warning("An image is refused, since decoding it failed: %s: %s", type(error).__name__, error)
        raise ImageRefused("unreadable", f"decoding it failed: {type(error).__name__}") from error
    return recipe.render(image)


def prepare_file(root: Path, path: str, recipe: Recipe) -> Image:
    """Read an image below ``root`` and prepare it.

    Raises:
        ImageRefused: as ``prepare_content``; or the file is a link that leads out of ``root``.
    """
    from cxr_pipeline.data.images.decoding import read_bytes

    if leads_out(root, path):
        raise ImageRefused("outside_source", "a link that leads out of the folder")
    return prepare_content(read_bytes(root / path), recipe)


def leads_out(root: Path, path: str) -> bool:
    """Tell whether ``path`` below ``root``, itself without links, leads to a place that is not."""
    return not Path(os.path.realpath(root / path)).is_relative_to(root)


def prepare_files(root: Path, recipe: Recipe, paths: Sequence[str]) -> list[Image | Refusal]:
    """Prepare some images below ``root``, each or the refusal of it."""
    return [_image_or_refusal(root, path, recipe) for path in paths]


def _image_or_refusal(root: Path, path: str, recipe: Recipe) -> Image | Refusal:
    try:
        return prepare_file(root, path, recipe)
    except ImageRefused as refusal:
        return refusal.reason, refusal.detail
