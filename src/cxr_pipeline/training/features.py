"""Activations of a frozen backbone, computed once per image and view and stored on disk."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cxr_pipeline.common.array_store import ArrayStore
from cxr_pipeline.common.mappings import json_digest
from cxr_pipeline.common.progress import progress_bar
from cxr_pipeline.data.images.store import PreparedImages
from cxr_pipeline.training.augmentation import STRENGTHS, AugmentedViews
from cxr_pipeline.training.settings import FEATURES

if TYPE_CHECKING:
    from keras import Model

# The SHA-256 of an image and the number of a view; view 0 is the unchanged image.
Entry = tuple[str, int]

BATCH_SIZE = 32
CHUNK = 8 * BATCH_SIZE

logger = logging.getLogger(__name__)


def weights_digest(network: Model) -> str:
    """Return the SHA-256 of the names and values of a network's weights."""
    digest = hashlib.sha256()
    for variable in sorted(network.weights, key=lambda variable: str(variable.path)):
        digest.update(variable.path.encode())
        digest.update(np.ascontiguousarray(variable.numpy()).tobytes())
    return digest.hexdigest()


class BackboneFeatures:
    """Activations of a model's frozen backbone, float16: at the cut, and pooled at its end.

    Each is an ``ArrayStore`` in a subfolder named after a digest of everything that affects a value, except the
    augmentation: it is part of the key of an augmented view, so that features of unchanged images remain valid when it
    changes. The network ``lower`` maps images to the activations at the cut, ``upper`` these to the pooled features.
    """

    def __init__(
        self, *, images: PreparedImages, lower: Model, upper: Model, augmentation: Mapping[str, Any], folder: Path
    ) -> None:
        from cxr_pipeline.training.networks.backbones import NORMALISATION

        self._images = images
        self._lower, self._upper = lower, upper
        self._augmentation = {name: augmentation[name] for name in (*STRENGTHS, "seed")}
        settings = {
            "version": FEATURES,
            "recipe": images.digest,
            "layer": lower.layers[-1].name,
            "weights": weights_digest(lower),
            "normalisation": [[layer.scale, layer.offset] for layer in lower.layers if layer.name == NORMALISATION],
        }
        self._augmentation_digest = json_digest(self._augmentation)[:16]

        def open_store(network: Model, **more: str) -> ArrayStore:
            shape = network.output_shape[1:]
            return ArrayStore(folder / json_digest({"shape": shape, **settings, **more})[:32], np.float16, shape)

        self._cut, self._pooled = open_store(lower), open_store(upper, pooled=weights_digest(upper))

    def prepare(self, entries: Sequence[Entry], *, at_cut: bool) -> None:
        """Compute and store the features of images and views that are missing.

        Activations at the cut are stored only ``at_cut``, because they are a hundred times larger.
        """
        views = AugmentedViews(self._augmentation)

        def activations(chunk: Sequence[Entry]) -> np.ndarray:
            sha256s, numbers = zip(*chunk, strict=True)
            return run_batches(self._lower, views.render(self._images.read(sha256s), sha256s, numbers))

        def pooled(chunk: Sequence[Entry]) -> np.ndarray:
            return run_batches(self._upper, self.read_cut(chunk) if at_cut else activations(chunk))

        if at_cut:
            self._fill(self._cut, entries, activations, "features at the cut")
        self._fill(self._pooled, entries, pooled, "pooled features")

    def read_cut(self, entries: Sequence[Entry]) -> np.ndarray:
        """Read activations at the cut, float16 [n, h, w, c]."""
        return self._cut.read(self._keys(entries))

    def read_pooled(self, entries: Sequence[Entry]) -> np.ndarray:
        """Read pooled features, float16 [n, c]."""
        return self._pooled.read(self._keys(entries))

    def _keys(self, entries: Sequence[Entry]) -> list[str]:
        return [f"{sha256}-{self._augmentation_digest}-{view}" if view else sha256 for sha256, view in entries]

    def _fill(
        self, store: ArrayStore, entries: Sequence[Entry], compute: Callable[[Sequence[Entry]], np.ndarray], name: str
    ) -> None:
        """Compute the missing entries, one shard after the other."""
        by_key = dict(zip(self._keys(entries), entries, strict=True))
        missing = store.missing(by_key)
        if not missing:
            return
        logger.info(
            "Computing %s with the pretrained layers for %d of %d images and views, which may take minutes; later runs "
            "reuse them.",
            *(name, len(missing), len(by_key)),
        )
        with progress_bar(name.capitalize(), len(missing)) as update:
            for shard in _chunks(missing, store.rows_per_shard):
                parts = []
                for keys in _chunks(shard, CHUNK):
                    parts.append(compute([by_key[key] for key in keys]))
                    update(advance=len(keys))
                store.write(shard, np.concatenate(parts))


def _chunks(items: Sequence[Any], size: int) -> Iterator[Any]:
    return (items[start : start + size] for start in range(0, len(items), size))


def run_batches(network: Model, inputs: np.ndarray) -> np.ndarray:
    """Run a network in batches of a fixed size, so that the result for an image does not depend on its batch.

    Inputs [n, ...] are cast to float32 batch by batch; outputs [n, ...] are float16, clipped to its range.
    """
    limit = np.finfo(np.float16).max
    outputs = np.empty((len(inputs), *network.output_shape[1:]), np.float16)
    batch = np.zeros((BATCH_SIZE, *inputs.shape[1:]), np.float32)
    for start in range(0, len(inputs), BATCH_SIZE):
        n = min(BATCH_SIZE, len(inputs) - start)
        batch[:n] = inputs[start : start + n]
        outputs[start : start + n] = np.clip(network.predict_on_batch(batch)[:n], -limit, limit)
    return outputs
