"""The reference profile of a model's own images: small, without pixels or patients."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.deployment.drift.image_features import STATISTICS, ImageFeatures

VERSION = 3
COMPONENTS = 16
_SIDES = ("training", "held_out")
_DIRECTIONS = ("mean", "scale", "components", "spread")


@dataclass(frozen=True, eq=False)
class ReferenceProfile:
    """What new images are compared with: a model's own images, one per patient, in random order.

    Pixel statistics and prevalence are those of training images. Features, scores and calibration are those of
    validation images: a network is more confident on its training images than on any others, so that new
    in-distribution images would seem to drift.

    Args:
        training: training images; their features are not kept.
        held_out: validation images; their features are those that `project` returns, float32 [m, c + 1].
        mean, scale: float32 [d], of the features of training images.
        components: float32 [c, d], principal directions of the standardised features, unit rows.
        spread: float32 [c], standard deviations along these directions.
    """

    outputs: tuple[str, ...]
    training: ImageFeatures
    held_out: ImageFeatures
    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    components: NDArray[np.float32]
    spread: NDArray[np.float32]

    @classmethod
    def fit(cls, training: ImageFeatures, held_out: ImageFeatures, *, outputs: Sequence[str], seed: int) -> Self:
        """Build the profile of a model's training and validation images, one per patient, stored in random order."""
        if not len(training):
            raise UserError("A reference profile needs training images; found none.")
        rng = np.random.default_rng(seed)
        directions = _principal_directions(training.features)
        training, held_out = (images.take(rng.permutation(len(images))) for images in (training, held_out))
        training = replace(training, features=training.features[:, :0])
        profile = cls(tuple(outputs), training, held_out, *directions)
        return replace(profile, held_out=replace(held_out, features=profile.project(held_out.features)))

    def match_sources(self, sources: NDArray[np.str_], *, min_images: int, seed: int) -> Self:
        """Return the largest random subset in which each source has the share that it has among new images.

        Without this, a release in which one source grows would count as drift from the mixture of all sources. All
        images are kept where the subset would have fewer than ``min_images``, or a new image has another source.
        """
        own = np.union1d(self.training.source, self.held_out.source)
        if not len(sources) or not np.isin(sources, own).all():
            return self
        rng = np.random.default_rng(seed)
        shares = {str(name): float(np.mean(sources == name)) for name in own}
        training = _sample_by_source(self.training, shares, min_images, rng)
        return replace(self, training=training, held_out=_sample_by_source(self.held_out, shares, min_images, rng))

    def project(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Project features [n, d] on the principal directions of the training images, scaled to variance 1.

        The last column of the result, float32 [n, c + 1], is the logarithm of the residual.
        """
        standardised = (np.where(np.isfinite(features), features, np.nan) - self.mean) / self.scale
        along = standardised @ self.components.T
        residual = np.sqrt(np.mean((standardised - along @ self.components) ** 2, axis=1, keepdims=True))
        return np.hstack([along / self.spread, np.log(residual + 1e-3)]).astype(np.float32)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the profile as arrays of numbers and text, which can be stored without pickle."""
        about = {"version": VERSION, "outputs": self.outputs, "statistics": list(STATISTICS)}
        arrays = {"about": np.array(json.dumps(about)), **{name: getattr(self, name) for name in _DIRECTIONS}}
        for side in _SIDES:
            arrays |= {f"{side}.{name}": values for name, values in vars(getattr(self, side)).items()}
        return arrays

    def save(self, path: Path) -> None:
        """Write the profile as ``.npz``."""
        np.savez_compressed(path, allow_pickle=False, **self.to_arrays())

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a profile; raise `UserError` if another version of this package made it. It cannot contain code."""
        with np.load(path, allow_pickle=False) as arrays:
            about = json.loads(str(arrays["about"]))
            if (about["version"], about["statistics"]) != (VERSION, list(STATISTICS)):
                raise UserError(
                    f"The reference profile of the model has format {about['version']}; expected {VERSION}: it was "
                    "made by another version of this package. Train the model again, or use that version."
                )
            names = [field.name for field in fields(ImageFeatures)]
            training, held_out = (ImageFeatures(*(arrays[f"{side}.{name}"] for name in names)) for side in _SIDES)
            return cls(tuple(about["outputs"]), training, held_out, *(arrays[name] for name in _DIRECTIONS))


def _sample_by_source(
    images: ImageFeatures, shares: dict[str, float], min_images: int, rng: np.random.Generator
) -> ImageFeatures:
    """Return the largest sample in which each source has its share."""
    own = {name: np.flatnonzero(images.source == name) for name in shares}
    n_images = min(len(own[name]) / share for name, share in shares.items() if share)
    # 1e-9, so that a product such as 0.1 * 30 is not rounded down.
    counts = {name: int(n_images * share + 1e-9) for name, share in shares.items()}
    if sum(counts.values()) < min_images:
        return images
    sample = [rng.choice(own[name], count, replace=False) for name, count in counts.items()]
    return images.take(np.sort(np.concatenate(sample)))


def _principal_directions(features: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
    """Return mean [d], scale [d] (infinite for dead features), directions [c, d], and the spread along them [c]."""
    mean, scale = features.mean(axis=0), features.std(axis=0)
    # Dividing by infinity gives a feature that is constant in training no weight.
    scale = np.where(scale > 1e-6 * max(1.0, float(scale.max())), scale, np.inf).astype(np.float32)
    _, lengths, directions = np.linalg.svd((features - mean) / scale, full_matrices=False)
    spread = lengths[:COMPONENTS] / np.sqrt(max(len(features) - 1, 1))
    useful = np.flatnonzero(spread > 1e-3)
    return mean, scale, directions[useful].astype(np.float32), spread[useful].astype(np.float32)
