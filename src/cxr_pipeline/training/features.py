"""Activations of a frozen backbone, computed once per image and view and kept on disk.

A cache is a folder named by everything that decides a value; its entries are addressed by the image's sha256 and
the number of its view. They lie in shards: ``<name>.npy`` (float16, memory-mapped when read) and ``<name>.json``
(which entries, how many bytes). The table is put in place after the array, so that a shard without a table, left
by a kill, does not count. Two runs that compute the same entries at once write the same shard, or two that agree.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from rich import get_console
from rich.progress import Progress

from cxr_pipeline.common.files import write_array, written_atomically
from cxr_pipeline.common.mappings import json_digest
from cxr_pipeline.training.augmentation import STRENGTHS, AugmentedViews
from cxr_pipeline.training.versions import FEATURES

if TYPE_CHECKING:
    from keras import Model


Entry = tuple[str, int]

SHARD_BYTES = 16 * 2**20
BATCH_SIZE = 32
CHUNK = 8 * BATCH_SIZE

logger = logging.getLogger(__name__)


class Images(Protocol):
    """Prepared images, read by content."""

    @property
    def digest(self) -> str:
        """Digest of the recipe that prepared them."""

    def read(self, sha256s: Sequence[str]) -> np.ndarray:
        """Grey images [n, S, S], uint8."""


def weights_digest(network: Model) -> str:
    """SHA-256 of the names and values of a network's weights."""
    digest = hashlib.sha256()
    for variable in sorted(network.weights, key=lambda variable: str(variable.path)):
        digest.update(variable.path.encode())
        digest.update(np.ascontiguousarray(variable.numpy()).tobytes())
    return digest.hexdigest()


class FeatureCache:
    """Float16 arrays of one shape, addressed by image and view.

    Args:
        folder: where caches lie.
        key: everything that decides a value, JSON-able.
        shape: of one entry.
    """

    def __init__(self, folder: Path, *, key: Mapping[str, object], shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.folder = folder / json_digest({"version": FEATURES, "shape": shape, **key})[:32]
        self._places: dict[Entry, tuple[Path, int]] = {}
        self._open = lru_cache(maxsize=64)(lambda path: np.load(path, mmap_mode="r"))
        for table in sorted(self.folder.glob("*.json")):
            self._enter(table)

    def missing(self, entries: Sequence[Entry]) -> list[Entry]:
        """Entries that must be computed, each once, in the order given."""
        return [entry for entry in dict.fromkeys(entries) if entry not in self._places]

    def fill(
        self,
        entries: Sequence[Entry],
        compute: Callable[[Sequence[Entry]], np.ndarray],
        *,
        advance: Callable[[int], None] = lambda n: None,
    ) -> None:
        """Compute what is missing and keep it, shard by shard.

        Args:
            entries: what must be there in the end.
            compute: from entries to their arrays [n, *shape].
            advance: called with the number of entries of each shard that is done.
        """
        absent = self.missing(entries)
        per_shard = max(1, SHARD_BYTES // (2 * int(np.prod(self.shape))))
        for start in range(0, len(absent), per_shard):
            chunk = absent[start : start + per_shard]
            self._write(chunk, compute(chunk).astype(np.float16))
            advance(len(chunk))

    def read(self, entries: Sequence[Entry]) -> np.ndarray:
        """Read entries that `fill` was asked for.

        Returns:
            Array [n, *shape], float16.

        Raises:
            KeyError: an entry was never computed.
        """
        features = np.empty((len(entries), *self.shape), np.float16)
        for row, entry in enumerate(entries):
            path, place = self._places[entry]
            features[row] = self._open(path)[place]
        return features

    def _write(self, entries: Sequence[Entry], features: np.ndarray) -> None:
        path = self.folder / f"{json_digest(entries)[:32]}.npy"
        write_array(path, features)
        table = path.with_suffix(".json")
        with written_atomically(table) as beside:
            beside.write_text(json.dumps({"bytes": path.stat().st_size, "entries": entries}))
        self._enter(table)

    def _enter(self, table: Path) -> None:
        path = table.with_suffix(".npy")
        try:
            shard = json.loads(table.read_text())
            whole = path.stat().st_size == shard["bytes"]
        except (OSError, ValueError, KeyError, TypeError):
            whole = False
        if not whole:
            logger.warning("Features in %s are incomplete and will be computed again.", path)
            return
        self._places.update({(sha256, view): (path, place) for place, (sha256, view) in enumerate(shard["entries"])})


class BackboneFeatures:
    """Cached activations of a model's frozen backbone: at the cut, and pooled at its end.

    Views other than 0 are kept under a key that holds the augmentation, so that another augmentation leaves the
    features of the images themselves valid.

    Args:
        images: the prepared images.
        lower: network from images to the activations at the cut.
        upper: network from the activations at the cut to the pooled features, both frozen.
        augmentation: strengths and seed of `build_augmentation`, by name.
        folder: where caches lie.
    """

    def __init__(
        self, *, images: Images, lower: Model, upper: Model, augmentation: Mapping[str, Any], folder: Path
    ) -> None:
        self._images = images
        self._lower, self._upper = lower, upper
        self._augmentation = {name: augmentation[name] for name in (*STRENGTHS, "seed")}
        at_cut = {"recipe": images.digest, "layer": lower.layers[-1].name, "weights": weights_digest(lower)}
        pooled = at_cut | {"pooled": weights_digest(upper)}
        self._cut = self._caches(folder, at_cut, lower.output_shape[1:])
        self._pooled = self._caches(folder, pooled, upper.output_shape[1:])

    def prepare(self, entries: Sequence[Entry], *, at_cut: bool) -> None:
        """Compute and keep the features of these images and views, unless they are there.

        Args:
            entries: images and views.
            at_cut: whether the activations at the cut are kept too, which are a hundred times larger.
        """
        views = AugmentedViews(self._augmentation)

        def compute(chunk: Sequence[Entry]) -> np.ndarray:
            sha256s, numbers = zip(*chunk, strict=True)
            return run_batches(self._lower, views.render(self._images.read(sha256s), sha256s, numbers))

        def pooled(chunk: Sequence[Entry]) -> np.ndarray:
            parts = [chunk[start : start + CHUNK] for start in range(0, len(chunk), CHUNK)]
            below = self.read_cut if at_cut else compute
            return np.concatenate([run_batches(self._upper, below(part)) for part in parts])

        if at_cut:
            _fill(self._cut, entries, compute, description="features at the cut")
        _fill(self._pooled, entries, pooled, description="pooled features")

    def read_cut(self, entries: Sequence[Entry]) -> np.ndarray:
        """Activations at the cut [n, h, w, c], float16."""
        return _read(self._cut, entries)

    def read_pooled(self, entries: Sequence[Entry]) -> np.ndarray:
        """Pooled features [n, c], float16."""
        return _read(self._pooled, entries)

    def _caches(
        self, folder: Path, key: Mapping[str, object], shape: tuple[int, ...]
    ) -> tuple[FeatureCache, FeatureCache]:
        """One cache of the images as they are, one of their augmented views."""
        return (
            FeatureCache(folder, key=key, shape=shape),
            FeatureCache(folder, key={**key, "augmentation": self._augmentation}, shape=shape),
        )


def run_batches(network: Model, inputs: np.ndarray) -> np.ndarray:
    """Run a network in batches of one size, so that an image's result does not depend on how many come with it.

    Args:
        network: any network with one input and one output.
        inputs: [n, ...], cast to float32 batch by batch.

    Returns:
        Outputs [n, ...], float16, clipped to its range.
    """
    limit = np.finfo(np.float16).max
    outputs = np.empty((len(inputs), *network.output_shape[1:]), np.float16)
    batch = np.zeros((BATCH_SIZE, *inputs.shape[1:]), np.float32)
    for start in range(0, len(inputs), BATCH_SIZE):
        n = min(BATCH_SIZE, len(inputs) - start)
        batch[:n] = inputs[start : start + n]
        outputs[start : start + n] = np.clip(network.predict_on_batch(batch)[:n], -limit, limit)
    return outputs


def _fill(
    caches: tuple[FeatureCache, FeatureCache],
    entries: Sequence[Entry],
    compute: Callable[[Sequence[Entry]], np.ndarray],
    *,
    description: str,
) -> None:
    wanted = [[entry for entry in entries if bool(entry[1]) is augmented] for augmented in (False, True)]
    absent = sum(len(cache.missing(part)) for cache, part in zip(caches, wanted, strict=True))
    if not absent:
        return
    logger.info("Computing %s: %d of %d images and views are not cached.", description, absent, len(set(entries)))
    with Progress(transient=True, disable=not get_console().is_terminal) as bar:
        task = bar.add_task(description, total=absent)
        for cache, part in zip(caches, wanted, strict=True):
            cache.fill(part, compute, advance=lambda n: bar.advance(task, n))


def _read(caches: tuple[FeatureCache, FeatureCache], entries: Sequence[Entry]) -> np.ndarray:
    features = np.empty((len(entries), *caches[0].shape), np.float16)
    for augmented, cache in enumerate(caches):
        rows = [row for row, (_, view) in enumerate(entries) if bool(view) == bool(augmented)]
        if rows:
            features[rows] = cache.read([entries[row] for row in rows])
    return features
