"""Shards: blocks of prepared images on disk, and the work that makes one.

A shard is ``shard-<hash>.npy``, uint8 [n, size, size], and beside it ``shard-<hash>.json``, which says whose
images these are. The second is written last: without it the first is not seen.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cxr_pipeline.common.errors import ImageRefused
from cxr_pipeline.common.files import write_array, written_atomically
from cxr_pipeline.data.images.recipe import Recipe

if TYPE_CHECKING:
    from cxr_pipeline.data.images.reader import Reader

_NPY_HEADER = 128


@dataclass(frozen=True)
class Refusal:
    """An image that could not be prepared, and why."""

    sha256: str
    reason: str
    detail: str


@dataclass(frozen=True)
class Shard:
    """What is known of a block of images.

    Args:
        name: names the two files of the shard.
        recipe: digest of the recipe that prepared the images.
        size: side of an image in pixels.
        max_megapixels: the limit above which images were refused when the shard was made.
        sha256s: of the prepared images, in the order of the array.
        pixels: width times height of each of these images before it was resized.
        refused: images of the block that cannot be used.
    """

    name: str
    recipe: str
    size: int
    max_megapixels: float
    sha256s: tuple[str, ...]
    pixels: tuple[int, ...]
    refused: tuple[Refusal, ...]


def shard_name(sha256s: Sequence[str]) -> str:
    """Name a shard by the images it is made from, so that two runs that make the same one agree."""
    return f"shard-{hashlib.sha256(' '.join(sha256s).encode()).hexdigest()[:16]}"


def prepare_shard(folder: Path, recipe: Recipe, wanted: Sequence[tuple[str, "Reader", str]]) -> list[Refusal]:
    """Decode and prepare images into one shard.

    Args:
        folder: where the shard goes.
        recipe: how images are prepared.
        wanted: of each image the SHA-256 of its content, what reads it, and its path there.

    Returns:
        Refusals that are not remembered in the shard, because another time the image may be readable:
        it could not be read, or its content was not what the SHA-256 says.

    Raises:
        UserError: the shard could not be written.
    """
    sha256s: list[str] = []
    images: list[NDArray[np.uint8]] = []
    pixels: list[int] = []
    lasting: list[Refusal] = []
    passing: list[Refusal] = []
    for sha256, reader, path in wanted:
        try:
            content = _read_unchanged(reader, path, sha256)
        except ImageRefused as refusal:
            passing.append(Refusal(sha256, refusal.reason, refusal.detail))
            continue
        try:
            image = recipe.decode(content)
        except ImageRefused as refusal:
            lasting.append(Refusal(sha256, refusal.reason, refusal.detail))
            continue
        sha256s.append(sha256)
        images.append(recipe.render(image))
        pixels.append(image.size)
    name = shard_name([*sha256s, *(refusal.sha256 for refusal in lasting)])
    shard = Shard(
        name, recipe.digest, recipe.size, recipe.max_megapixels, tuple(sha256s), tuple(pixels), tuple(lasting)
    )
    write_shard(folder, shard, images)
    return passing


def enhance_shard(folder: Path, recipe: Recipe, source: Path, shard: Shard, rows: Sequence[int]) -> list[Refusal]:
    """Run a recipe's steps over images that are already resized, into one shard.

    Args:
        folder: where the shard goes.
        recipe: whose steps are run.
        source: folder of the shard that holds the resized images.
        shard: describes it.
        rows: which of its images are wanted.

    Returns:
        No refusals.

    Raises:
        UserError: the shard could not be written.
    """
    from cxr_pipeline.data.images.morphology import apply_steps

    resized = open_images(source, shard)
    chosen = Shard(
        shard_name([shard.sha256s[row] for row in rows]),
        recipe.digest,
        recipe.size,
        recipe.max_megapixels,
        tuple(shard.sha256s[row] for row in rows),
        tuple(shard.pixels[row] for row in rows),
        (),
    )
    write_shard(folder, chosen, [apply_steps(resized[row], recipe.steps) for row in rows])
    return []


def write_shard(folder: Path, shard: Shard, images: Sequence[NDArray[np.uint8]]) -> None:
    """Write a shard's images, uint8 [size, size] each, and then its description; nothing for no content.

    Raises:
        UserError: the disk is full or the folder cannot be written.
    """
    if not shard.sha256s and not shard.refused:
        return
    array = np.asarray(images, dtype=np.uint8).reshape(-1, shard.size, shard.size)
    write_array(folder / f"{shard.name}.npy", array)
    with written_atomically(folder / f"{shard.name}.json") as beside:
        beside.write_text(json.dumps(asdict(shard), separators=(",", ":")))


def read_shard(description: Path, recipe: Recipe) -> Shard | None:
    """Read what a shard says of itself.

    Returns:
        None for a shard of another recipe, and for one whose files are damaged or do not match.
    """
    try:
        content = json.loads(description.read_bytes())
        refused = tuple(Refusal(**refusal) for refusal in content["refused"])
        lists = {"sha256s": tuple(content["sha256s"]), "pixels": tuple(content["pixels"]), "refused": refused}
        shard = Shard(**{**content, **lists})
        length = description.with_suffix(".npy").stat().st_size
    except (OSError, ValueError, TypeError, KeyError):
        return None
    expected = _NPY_HEADER + len(shard.sha256s) * recipe.size**2
    whole = length == expected and len(shard.pixels) == len(shard.sha256s)
    return shard if whole and shard.recipe == recipe.digest and shard.name == description.stem else None


def open_images(folder: Path, shard: Shard) -> NDArray[np.uint8]:
    """Map a shard's images into memory, uint8 [n, size, size]; an image is read when it is touched."""
    path = folder / f"{shard.name}.npy"
    shape = (len(shard.sha256s), shard.size, shard.size)
    return np.memmap(path, dtype=np.uint8, mode="r", offset=_NPY_HEADER, shape=shape)


def _read_unchanged(reader: "Reader", path: str, sha256: str) -> bytes:
    content = reader.read(path)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ImageRefused("unreadable", "changed while the pipeline was reading it")
    return content
