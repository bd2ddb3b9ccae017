"""The image store: prepared images on disk, addressed by the content of the file that each came from."""

import hashlib
import logging
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr_pipeline.common.array_store import ArrayStore, write_shard
from cxr_pipeline.common.errors import ImageRefused, Unavailable, UserError
from cxr_pipeline.common.parallel import map_in_order, n_cores
from cxr_pipeline.common.progress import progress_bar
from cxr_pipeline.data.images.morphology import apply_steps
from cxr_pipeline.data.images.recipe import Recipe

if TYPE_CHECKING:
    from cxr_pipeline.data.sources.readers import Reader

# With fewer images, starting worker processes takes longer than it saves.
_FEW_BYTES_TO_DECODE = 2**27
_FEW_IMAGES_TO_ENHANCE = 5000
# Small shards show progress, and let the threads of one process share the work; many of them are slow to open.
_FEWEST_IN_SHARD, _MOST_SMALL_SHARDS = 32, 16
_IMAGES, _REFUSED, _NOTES = "images", "refused", "notes"
_NOTE = np.dtype("S200")
_REFUSAL = np.dtype([("reason", "S32"), ("detail", "S200")])

_log = logging.getLogger(__name__)

Refusals = dict[str, ImageRefused]


@dataclass(frozen=True)
class PreparedImages:
    """The images that one recipe has prepared: a handle, which nodes pass on instead of the images.

    An image is identified by the SHA-256 of its file, and is decoded once for all files, tasks and runs; refusals are
    stored, too. After a kill, ``fill`` resumes where it stopped. Several processes can fill a store at once.
    """

    root: Path
    recipe: Recipe

    @property
    def folder(self) -> Path:
        """The folder of this recipe, below ``root``."""
        # One for each limit on megapixels: refusals must not depend on the limits of earlier runs.
        return self.root / f"{self.digest}-{float(self.recipe.max_megapixels)}"

    @property
    def digest(self) -> str:
        """Digest of the recipe."""
        return self.recipe.digest

    @cached_property
    def _images(self) -> ArrayStore:
        return ArrayStore(self.folder / _IMAGES, np.uint8, (self.recipe.size, self.recipe.size))

    @cached_property
    def _refused(self) -> ArrayStore:
        return ArrayStore(self.folder / _REFUSED, _REFUSAL)

    @cached_property
    def _notes(self) -> ArrayStore:
        return ArrayStore(self.folder / _NOTES, _NOTE)

    def missing(self, sha256s: Iterable[str]) -> list[str]:
        """Return the images that are neither prepared nor known to be unusable."""
        return self._refused.missing(self._images.missing(sha256s))

    def fill(self, images: Mapping[str, tuple["Reader", str]], *, workers: int | None = None) -> pd.DataFrame:
        """Prepare the images that the store does not contain, and return the refused ones among all images.

        The images are given by their SHA-256, each with its reader and its path there. Processes, one for each core
        unless ``workers`` are given, decode them if they are many. The table has ``sha256``, ``reason`` and ``detail``.
        """
        self._refresh()
        wanted = [(sha256, *images[sha256]) for sha256 in self.missing(images)]
        is_large = sum((reader.version(path) or (0, 0))[0] for _, reader, path in wanted) > _FEW_BYTES_TO_DECODE
        work = partial(_prepare, self.folder, self.recipe)
        refused = self._run(work, wanted, workers=(workers or n_cores()) if is_large else 1, title="Preparing images")
        self._warn(images)
        known = [sha256 for sha256 in images if sha256 in self._refused]
        for sha256, (reason, detail) in zip(known, self._refused.read(known).tolist(), strict=True):
            refused[sha256] = ImageRefused(reason.decode(), detail.decode(errors="ignore"))
        rows = [(sha256, *refused[sha256].args) for sha256 in images if sha256 in refused]
        return pd.DataFrame(rows, columns=["sha256", "reason", "detail"], dtype="str")

    def enhanced(
        self, sha256s: Iterable[str], steps: Sequence[Mapping[str, Any]], *, workers: int | None = None
    ) -> "PreparedImages":
        """Apply steps to prepared images and return a handle of the results; without steps, this handle."""
        if not steps:
            return self
        enhanced = PreparedImages(self.root, replace(self.recipe, steps=tuple(steps)))
        wanted = enhanced.missing(sha256s)
        self.check_holds(wanted)
        workers = (workers or n_cores()) if len(wanted) > _FEW_IMAGES_TO_ENHANCE else 1
        work = partial(_enhance, self.folder, enhanced.folder, enhanced.recipe)
        enhanced._run(work, wanted, workers=workers, title="Enhancing images")
        return enhanced

    def read(self, sha256s: Sequence[str]) -> NDArray[np.uint8]:
        """Read images in the given order, uint8 [n, size, size]; raise `UserError` if one of them is missing."""
        self.check_holds(sha256s)
        return self._images.read(sha256s)

    def batches(self, sha256s: Sequence[str], batch_size: int) -> Iterator[NDArray[np.uint8]]:
        """Read images in the given order, uint8 [at most batch_size, size, size] at a time."""
        for start in range(0, len(sha256s), batch_size):
            yield self.read(sha256s[start : start + batch_size])

    def check_holds(self, sha256s: Sequence[str]) -> None:
        """Raise ``UserError`` if images are not prepared."""
        missing = self._images.missing(sha256s)
        if missing:
            raise UserError(
                f"{len(missing)} of {len(sha256s)} images are not among the prepared images in {self.folder} (the "
                f"first is {missing[0]}). Run the pipeline from its start, without --from-nodes, to prepare them."
            )

    def to_dict(self) -> dict[str, Any]:
        """Describe the handle in JSON types."""
        return {"folder": str(self.root), "recipe": self.recipe.to_dict(), "digest": self.digest}

    @classmethod
    def from_dict(cls, description: Mapping[str, Any]) -> "PreparedImages":
        """Build a handle from the result of ``to_dict``."""
        return cls(Path(description["folder"]), Recipe(**description["recipe"]))

    def _warn(self, images: Mapping[str, tuple["Reader", str]]) -> None:
        noted = [sha256 for sha256 in images if sha256 in self._notes]
        texts = [text.decode() for text in self._notes.read(noted).tolist()]
        for text, count in Counter(texts).items():
            _, path = images[noted[texts.index(text)]]
            _log.warning("%d of %d images (such as %s): %s.", count, len(images), path, text)

    def _refresh(self) -> None:
        for store in (self._notes, self._images, self._refused):
            store.refresh()

    def _run(
        self, work: Callable[[Sequence[Any]], Refusals], items: Sequence[Any], *, workers: int, title: str
    ) -> Refusals:
        """Divide items into shards, process each, and return the refusals that are not stored."""
        self._check_room(len(items))
        smallest = max(_FEWEST_IN_SHARD, -(-len(items) // _MOST_SMALL_SHARDS))
        length = max(1, min(self._images.rows_per_shard, -(-len(items) // workers), smallest))
        shards = [items[start : start + length] for start in range(0, len(items), length)]
        transient: Refusals = {}
        try:
            results = map_in_order(work, shards, workers=min(workers, max(1, len(shards))))
            with progress_bar(title, len(items)) as update:
                for shard, refused in zip(shards, results, strict=True):
                    transient |= refused
                    update(advance=len(shard))
        finally:
            self._refresh()
        return transient

    def _check_room(self, n_images: int) -> None:
        existing = next(folder for folder in (self.folder, *self.folder.parents) if folder.exists())
        needed, free = n_images * self.recipe.size**2, shutil.disk_usage(existing).free
        if free < needed:
            side = self.recipe.size
            raise UserError(
                f"Not enough free disk space for the prepared images: {n_images} images of {side} x {side} pixels need "
                f"{needed / 1e6:,.0f} MB in {self.folder}, found {free / 1e6:,.0f} MB. Free some disk space, or choose "
                "a smaller size (--params <task>.resolution.size=...), and run the same command again."
            )


def _prepare(folder: Path, recipe: Recipe, images: Sequence[tuple[str, "Reader", str]]) -> Refusals:
    """Prepare images as one shard, and return the refusals of those that may be readable later."""
    prepared: dict[str, NDArray[np.uint8]] = {}
    notes: dict[str, str] = {}
    permanent: Refusals = {}
    transient: Refusals = {}
    for sha256, reader, path in images:
        refusals = transient
        try:
            content = reader.read(path)
            if hashlib.sha256(content).hexdigest() != sha256:
                raise ImageRefused("unreadable", "changed while the pipeline was reading it")
            refusals = permanent
            prepared[sha256] = recipe.prepare(content, note=partial(notes.__setitem__, sha256))
        except ImageRefused as refusal:
            refusals[sha256] = refusal
        except MemoryError as error:  # not stored as a refusal, because it does not depend on the image alone
            raise Unavailable(
                f"Not enough memory, processes or open files to decode {path}. Prepared images are kept. Free some, or "
                "use fewer workers (--params <task>.resolution.workers=1), then run the same command again."
            ) from error
    # Before the images, so that none of them is without its note after a kill.
    if noted := [sha256 for sha256 in prepared if sha256 in notes]:
        write_shard(folder / _NOTES, noted, np.array([notes[sha256].encode() for sha256 in noted], _NOTE))
    if prepared:
        write_shard(folder / _IMAGES, list(prepared), np.stack(list(prepared.values())))
    if permanent:
        rows = [(refusal.reason.encode(), refusal.detail.encode()) for refusal in permanent.values()]
        write_shard(folder / _REFUSED, list(permanent), np.array(rows, _REFUSAL))
    return transient


# Opened once per worker process, not once per shard.
_open_images = lru_cache(maxsize=1)(ArrayStore)


def _enhance(resized: Path, folder: Path, recipe: Recipe, sha256s: Sequence[str]) -> Refusals:
    """Apply the steps of a recipe to resized images, and write them as one shard."""
    source = _open_images(resized / _IMAGES, np.uint8, (recipe.size, recipe.size))
    source.refresh()
    images = [apply_steps(image, recipe.steps) for image in source.read(sha256s)]
    write_shard(folder / _IMAGES, sha256s, np.stack(images))
    return {}
