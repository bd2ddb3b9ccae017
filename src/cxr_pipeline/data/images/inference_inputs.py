"""Films that come to a model that is in use: from a folder or from a client, no source, no labels."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxr_pipeline.common.errors import FilmRefused
from cxr_pipeline.data.images.recipe import Recipe

Film = NDArray[np.uint8]
# The reason and the detail of a refusal; unlike an exception, they come whole out of another process.
Refusal = tuple[str, str]

_log = logging.getLogger(__name__)


def prepare_content(content: bytes, recipe: Recipe) -> Film:
    """Turn the bytes of a film's file into a network's input.

    Returns:
        uint8 [size, size].

    Raises:
        FilmRefused: it cannot be used, or a decoder fails over it in a way that is not foreseen.
    """
    from cxr_pipeline.data.images.dicom import check_chest

    try:
        check_chest(content)
        film = recipe.decode(content)
    except FilmRefused:
        raise
    except MemoryError:
        raise FilmRefused("too_large", "there is no memory for its pixels") from None
    except Exception as error:  # one film must not fail those that come with it
        _log.warning("A film is refused, since decoding it failed: %s: %s", type(error).__name__, error)
        raise FilmRefused("unreadable", f"decoding it failed: {type(error).__name__}") from error
    return recipe.render(film)


def prepare_file(root: Path, path: str, recipe: Recipe) -> Film:
    """Read a film below ``root`` and prepare it.

    Raises:
        FilmRefused: as ``prepare_content``; or the file is a link that leads out of ``root``.
    """
    from cxr_pipeline.data.images.decoding import read_bytes

    if leads_out(root, path):
        raise FilmRefused("outside_source", "a link that leads out of the folder")
    return prepare_content(read_bytes(root / path), recipe)


def leads_out(root: Path, path: str) -> bool:
    """Tell whether ``path`` below ``root``, itself without links, leads to a place that is not."""
    return not Path(os.path.realpath(root / path)).is_relative_to(root)


def prepare_files(root: Path, recipe: Recipe, paths: Sequence[str]) -> list[Film | Refusal]:
    """Prepare some films below ``root``, each or the refusal of it."""
    return [_film_or_refusal(root, path, recipe) for path in paths]


def _film_or_refusal(root: Path, path: str, recipe: Recipe) -> Film | Refusal:
    try:
        return prepare_file(root, path, recipe)
    except FilmRefused as refusal:
        return refusal.reason, refusal.detail
