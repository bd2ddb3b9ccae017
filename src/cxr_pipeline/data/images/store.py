"""The image store: prepared images on disk, addressed by the content of the file that each came from."""

import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property, lru_cache, partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.images.parallel import Task, divided, n_cores, run_tasks, sum_exceeds
from cxr_pipeline.data.images.recipe import Recipe
from cxr_pipeline.data.images.shards import Refusal, enhance_shard, open_images, prepare_shard, read_shard

if TYPE_CHECKING:
    import pandas as pd

    from cxr_pipeline.data.images.reader import Reader

_SHARD_IMAGES = 512
_SHARD_BYTES = 2**26
_MAPPED_SHARDS = 256
# Below this, starting processes takes longer than they save.
_FEW_BYTES_TO_DECODE = 2**26
_FEW_IMAGES_TO_ENHANCE = 5000
_LEFTOVER_SECONDS = 3600


class ImageStore:
    """Images prepared by one recipe, in ``<folder>/<digest of the recipe>/``.

    The content of an image's file names it. An image is decoded once, whatever file, task or run it comes from;
    an image that was refused is remembered too. Shards appear whole or not at all: after a kill the next run
    goes on from there, and two runs at once do no harm.

    Args:
        folder: holds a folder per recipe.
        recipe: how images are prepared.
    """

    def __init__(self, folder: Path, recipe: Recipe) -> None:
        self.root = Path(folder)
        self.recipe = recipe
        self.folder = self.root / recipe.digest
        self._read_index()

    def __reduce__(self) -> tuple[Any, ...]:
        return ImageStore, (self.root, self.recipe)

    def __len__(self) -> int:
        return len(self._rows)

    def missing(self, sha256s: Iterable[str]) -> list[str]:
        """List the images that are neither prepared nor known to be unusable."""
        return [sha256 for sha256 in dict.fromkeys(sha256s) if sha256 not in self._rows and sha256 not in self._refused]

    def fill(self, images: Mapping[str, tuple["Reader", str]], *, workers: int | None = None) -> "pd.DataFrame":
        """Prepare those images that the store does not hold.

        Args:
            images: SHA-256 of each image's content to what reads it, and its path there.
            workers: processes that decode; None for one a core. A few images are decoded in this process.

        Returns:
            Table of the refused ones among all these images: ``sha256``, ``reason``, ``detail``.

        Raises:
            UserError: the store cannot be written, or there is no room for the images.
        """
        import pandas as pd

        self._read_index()
        wanted = [(sha256, *images[sha256]) for sha256 in self.missing(images)]
        lengths = (reader.n_bytes(path) for _, reader, path in wanted)
        workers = workers or n_cores() if sum_exceeds(lengths, _FEW_BYTES_TO_DECODE) else 1
        blocks = divided(wanted, largest=min(_SHARD_IMAGES, _SHARD_BYTES // self.recipe.size**2), parts=workers)
        tasks = [Task(partial(prepare_shard, self.folder, self.recipe, block), len(block)) for block in blocks]
        passing = {refusal.sha256: refusal for refusal in self._run(tasks, workers, "Preparing images")}
        refused = [passing.get(sha256) or self._refused.get(sha256) for sha256 in images]
        rows = [asdict(refusal) for refusal in refused if refusal]
        return pd.DataFrame(rows, columns=["sha256", "reason", "detail"], dtype="str")

    def fill_from(
        self, other: "ImageStore", sha256s: Iterable[str] | None = None, *, workers: int | None = None
    ) -> None:
        """Run this store's steps over images that another store holds resized.

        Args:
            other: a store whose recipe is this one's without steps.
            sha256s: the images; None for all that the other store holds.
            workers: processes that work; None for one a core. A few images are worked on in this process.

        Raises:
            ValueError: the other recipe resizes in another way, or has steps.
            UserError: the other store lacks images, this one cannot be written, or there is no room.
        """
        if replace(self.recipe, steps=()).digest != other.recipe.digest:
            raise ValueError(f"expected a store of the same size and mode, without steps. Received: {other.recipe}")
        self._read_index()
        wanted = self.missing(other._rows if sha256s is None else sha256s)
        workers = workers or n_cores() if len(wanted) > _FEW_IMAGES_TO_ENHANCE else 1
        enhance = partial(enhance_shard, self.folder, self.recipe, other.folder)
        tasks = [
            Task(partial(enhance, other._shards[number], rows.tolist()), len(rows))
            for number, _, rows in other._by_shard(wanted)
        ]
        self._run(tasks, workers, "Enhancing images")

    def read(self, sha256s: Sequence[str]) -> NDArray[np.uint8]:
        """Read images in the order asked.

        Returns:
            uint8 [n, size, size], a copy.

        Raises:
            UserError: the store does not hold one of them.
        """
        images = np.empty((len(sha256s), self.recipe.size, self.recipe.size), dtype=np.uint8)
        for number, positions, rows in self._by_shard(sha256s):
            images[positions] = self._open(number)[rows]
        return images

    def batches(self, sha256s: Sequence[str], batch_size: int) -> Iterator[NDArray[np.uint8]]:
        """Read images batch by batch, uint8 [at most batch_size, size, size], in the order asked."""
        for start in range(0, len(sha256s), batch_size):
            yield self.read(sha256s[start : start + batch_size])

    def _read_index(self) -> None:
        found = (read_shard(description, self.recipe) for description in sorted(self.folder.glob("shard-*.json")))
        self._shards = [shard for shard in found if shard]
        self._starts = np.cumsum([0, *(len(shard.sha256s) for shard in self._shards)])
        self._rows = {sha256: row for row, sha256 in enumerate(chain.from_iterable(s.sha256s for s in self._shards))}
        self._refused = self._refusals()
        self._open = lru_cache(_MAPPED_SHARDS)(lambda number: open_images(self.folder, self._shards[number]))

    def _refusals(self) -> dict[str, Refusal]:
        """Collect the refusals that hold under this recipe's limit of megapixels.

        The limit may have changed since an image was prepared or refused. The images that are refused must not
        depend on which runs came before.
        """
        from cxr_pipeline.data.images.headers import too_large

        limit = self.recipe.max_megapixels
        refused = {
            refusal.sha256: refusal
            for shard in self._shards
            for refusal in shard.refused
            if refusal.reason != "too_large" or limit <= shard.max_megapixels
        }
        for shard in self._shards:
            if max(shard.pixels, default=0) > limit * 1e6:
                large = (pair for pair in zip(shard.sha256s, shard.pixels, strict=True) if pair[1] > limit * 1e6)
                refused |= {sha256: Refusal(sha256, "too_large", too_large(pixels).detail) for sha256, pixels in large}
        return refused

    def _run(self, tasks: Sequence[Task[list[Refusal]]], workers: int, title: str) -> list[Refusal]:
        """Make shards, and read the index again; without tasks, nothing is touched."""
        if not tasks:
            return []
        n_images = sum(task.n_images for task in tasks)
        self._prepare_folder(n_images)
        n_before = len(self)
        try:
            results = run_tasks(tasks, workers=min(workers, len(tasks)), title=title)
        except UserError as error:
            self._read_index()
            raise UserError(f"{error} {self._room_for(n_images + n_before - len(self))}") from error
        except BrokenProcessPool as error:
            raise UserError(
                "A process that works on images was killed, most likely because memory ran out. The images that are "
                "done are kept. Free some memory, or use one process (--params <task>.resolution.workers=1), and run "
                "the same command again."
            ) from error
        self._read_index()
        return [refusal for result in results for refusal in result]

    def _prepare_folder(self, n_images: int) -> None:
        """Check that the images can be written, and remove what killed runs left behind."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for leftover in self.folder.glob(".shard-*"):
                with suppress(FileNotFoundError):  # another run has put it in place
                    if leftover.stat().st_mtime < time.time() - _LEFTOVER_SECONDS:
                        leftover.unlink()
        except OSError as error:
            raise UserError(
                f"Prepared images cannot be kept in {self.folder}: {error.strerror or error}. Expected a folder that "
                "this user may write. Give the user that right, or move the project, and run the same command again."
            ) from error
        if shutil.disk_usage(self.folder).free < n_images * self.recipe.size**2:
            raise UserError(
                f"There is no room for prepared images. {self._room_for(n_images)} Free some room, or choose a smaller "
                "size (--params <task>.resolution.size=...), and run the same command again."
            )

    def _room_for(self, n_images: int) -> str:
        needed, free = n_images * self.recipe.size**2 / 1e6, shutil.disk_usage(self.folder).free / 1e6
        return (
            f"{n_images} images of {self.recipe.size} x {self.recipe.size} pixels need {needed:,.0f} MB in "
            f"{self.folder}, where {free:,.0f} MB are free."
        )

    def _by_shard(self, sha256s: Sequence[str]) -> Iterator[tuple[int, NDArray[np.intp], NDArray[np.intp]]]:
        """Yield, for each shard that holds some of the images, its number, their positions and their rows in it."""
        absent = [sha256 for sha256 in sha256s if sha256 not in self._rows]
        if absent:
            raise UserError(
                f"{len(absent)} of {len(sha256s)} images are not among the prepared images in {self.folder} (the first "
                f"is {absent[0]}). Run the pipeline again from its start, without --from-nodes, to prepare them."
            )
        rows = np.fromiter((self._rows[sha256] for sha256 in sha256s), dtype=np.intp, count=len(sha256s))
        numbers = np.searchsorted(self._starts, rows, side="right") - 1
        for number in np.unique(numbers).tolist():
            positions = np.flatnonzero(numbers == number)
            yield number, positions, rows[positions] - self._starts[number]


@dataclass(frozen=True)
class PreparedImages:
    """The handle of prepared images, which goes between nodes in their stead.

    Args:
        folder: the folder of the image stores.
        recipe: how the images are prepared.

    Example:
        >>> images = PreparedImages(Path("images"), Recipe(size=224, mode="fit", max_megapixels=100))
        >>> PreparedImages.from_dict(images.to_dict()) == images
        True
    """

    folder: Path
    recipe: Recipe

    @cached_property
    def store(self) -> ImageStore:
        """The store that holds the images, opened when first asked for."""
        return ImageStore(self.folder, self.recipe)

    @property
    def digest(self) -> str:
        """Digest of the recipe."""
        return self.recipe.digest

    def read(self, sha256s: Sequence[str]) -> NDArray[np.uint8]:
        """Read images, uint8 [n, size, size]; see ``ImageStore.read``."""
        return self.store.read(sha256s)

    def batches(self, sha256s: Sequence[str], batch_size: int) -> Iterator[NDArray[np.uint8]]:
        """Read images batch by batch; see ``ImageStore.batches``."""
        return self.store.batches(sha256s, batch_size)

    def enhanced(
        self, sha256s: Iterable[str], steps: Sequence[Mapping[str, Any]], *, workers: int | None = None
    ) -> "PreparedImages":
        """Run steps over images and return the handle of the results; without steps, it is this handle.

        Raises:
            UserError: an image is missing, or the results cannot be written.
        """
        if not steps:
            return self
        enhanced = PreparedImages(self.folder, replace(self.recipe, steps=tuple(steps)))
        enhanced.store.fill_from(self.store, sha256s, workers=workers)
        return enhanced

    def to_dict(self) -> dict[str, Any]:
        """Describe the handle in JSON types."""
        return {"folder": str(self.folder), "recipe": self.recipe.to_dict(), "digest": self.digest}

    @classmethod
    def from_dict(cls, description: Mapping[str, Any]) -> "PreparedImages":
        """Build a handle from what ``to_dict`` gave."""
        return cls(Path(description["folder"]), Recipe.from_dict(description["recipe"]))
