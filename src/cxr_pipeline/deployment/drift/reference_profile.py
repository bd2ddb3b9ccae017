"""The reference profile of a model's own images: small, without pixels and without patients."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.common.files import written_atomically
from cxr_pipeline.deployment.drift.image_features import ImageFeatures
from cxr_pipeline.deployment.drift.pixel_statistics import STATISTICS

VERSION = 2
COMPONENTS = 16
_TEXTS = ("outputs", "sources")


@dataclass(frozen=True, eq=False)
class ReferenceProfile:
    """What new images are compared with.

    Pixel statistics and prevalence are those of training images. Features, scores and calibration are those of
    validation images: a network is more certain of its training images than of any others, so that new images of the
    same kind would look like drift beside them. Each patient has one image, in random order.

    Args:
        outputs: The k outputs of the model.
        sources: Names of the sources of the images, sorted; the empty name where unknown.
        statistics: float32 [n, s], of training images.
        labels: float64 [n, k], of training images, NaN where unknown.
        training_source: int64 [n], index into ``sources`` of each training image.
        mean, scale: float32 [d], of the features of training images.
        components: float32 [c, d], principal directions of the standardised features, unit rows.
        spread: float32 [c], standard deviations along these directions.
        features: float32 [m, c + 1], of validation images, as `project` returns them.
        probability: float64 [m, k], of validation images.
        y_true: float64 [m, k], labels of validation images, NaN where unknown.
        held_out_source: int64 [m], index into ``sources`` of each validation image.
    """

    outputs: tuple[str, ...]
    sources: tuple[str, ...]
    statistics: NDArray[np.float32]
    labels: NDArray[np.float64]
    training_source: NDArray[np.int64]
    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    components: NDArray[np.float32]
    spread: NDArray[np.float32]
    features: NDArray[np.float32]
    probability: NDArray[np.float64]
    y_true: NDArray[np.float64]
    held_out_source: NDArray[np.int64]

    @classmethod
    def fit(cls, training: ImageFeatures, held_out: ImageFeatures, *, outputs: Sequence[str], seed: int) -> Self:
        """Build the profile of a model's own images.

        Args:
            training: Training images, one per patient.
            held_out: Validation images, one per patient.
            outputs: Outputs of the model.
            seed: Seed of the order in which the images are stored.

        Raises:
            UserError: There is no training image.
        """
        if not len(training):
            raise UserError("A reference profile needs training images; found none.")
        rng = np.random.default_rng(seed)
        training_order, held_out_order = rng.permutation(len(training)), rng.permutation(len(held_out))
        sources = np.unique(np.concatenate([training.source, held_out.source]))
        mean, scale, components, spread = _principal_directions(training.features)
        profile = cls(
            outputs=tuple(outputs),
            sources=tuple(sources.tolist()),
            statistics=training.statistics[training_order],
            labels=training.y_true[training_order],
            training_source=np.searchsorted(sources, training.source[training_order]).astype(np.int64),
            mean=mean,
            scale=scale,
            components=components,
            spread=spread,
            features=held_out.features[held_out_order],
            probability=held_out.probability[held_out_order],
            y_true=held_out.y_true[held_out_order],
            held_out_source=np.searchsorted(sources, held_out.source[held_out_order]).astype(np.int64),
        )
        return replace(profile, features=profile.project(profile.features))

    def match_sources(self, sources: NDArray[np.str_], *, min_images: int, seed: int) -> Self:
        """Return the largest random subset in which each source has the share that it has among new images.

        Without this, a release in which one source grows would count as drift from the mixture of all sources.

        Args:
            sources: str [n], sources of the new images.
            min_images: All images are kept where the subset would be smaller, or where a source of the new images is
                not in the profile.
            seed: Seed of the random subset.
        """
        if not len(sources) or not np.isin(sources, self.sources).all():
            return self
        shares = np.array([np.mean(sources == name) for name in self.sources])
        rng = np.random.default_rng(seed)
        training = _sample_by_source(self.training_source, shares, min_images, rng)
        held_out = _sample_by_source(self.held_out_source, shares, min_images, rng)
        subset = {name: getattr(self, name)[training] for name in ("statistics", "labels", "training_source")}
        for name in ("features", "probability", "y_true", "held_out_source"):
            subset[name] = getattr(self, name)[held_out]
        return replace(self, **subset)

    def project(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Project features [n, d] on the principal directions of the training images, which have variance 1 there.

        Returns:
            float32 [n, c + 1]; the last column is the logarithm of the residual.
        """
        standardised = (np.where(np.isfinite(features), features, np.nan) - self.mean) / self.scale
        along = standardised @ self.components.T
        residual = np.sqrt(np.mean((standardised - along @ self.components) ** 2, axis=1, keepdims=True))
        return np.hstack([along / self.spread, np.log(residual + 1e-3)]).astype(np.float32)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the profile as arrays of numbers, and one of text; none needs pickle."""
        texts = {name: list(getattr(self, name)) for name in _TEXTS}
        about = {"version": VERSION, **texts, "statistics": list(STATISTICS)}
        arrays = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in _TEXTS}
        return {"about": np.array(json.dumps(about)), **arrays}

    def save(self, path: Path) -> None:
        """Write the profile as ``.npz``, atomically."""
        with written_atomically(path) as beside:
            np.savez_compressed(beside, allow_pickle=False, **self.to_arrays())

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a profile; the file cannot contain code.

        Raises:
            UserError: The profile was made by another version of this package.
        """
        with np.load(path, allow_pickle=False) as arrays:
            about = json.loads(str(arrays["about"]))
            if (about["version"], about["statistics"]) != (VERSION, list(STATISTICS)):
                raise UserError(
                    f"The reference profile of the model has format {about['version']}; expected {VERSION}: it was made "
                    "by another version of this package. Train the model again, or use the package that trained it."
                )
            values: dict[str, Any] = {name: tuple(about[name]) for name in _TEXTS}
            values |= {field.name: arrays[field.name] for field in fields(cls) if field.name not in _TEXTS}
            return cls(**values)


def _sample_by_source(
    codes: NDArray[np.int64], shares: NDArray[np.float64], min_images: int, rng: np.random.Generator
) -> NDArray[np.intp]:
    """Return the ascending indices of the largest sample in which each source has its share."""
    available = np.bincount(codes, minlength=len(shares))
    n_images = (available[shares > 0] / shares[shares > 0]).min()
    # 1e-9 keeps a product such as 0.1 * 30 from being rounded down.
    counts = np.floor(n_images * shares + 1e-9).astype(int)
    if counts.sum() < min_images:
        return np.arange(len(codes))
    sample = [rng.choice(np.flatnonzero(codes == code), count, replace=False) for code, count in enumerate(counts)]
    return np.sort(np.concatenate(sample))


def _principal_directions(features: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
    """Return mean [d], scale [d] (infinite for dead features), directions [c, d], and the spread along them [c]."""
    mean, scale = features.mean(axis=0), features.std(axis=0)
    # Dividing by infinity gives a feature that is constant in training no weight.
    scale = np.where(scale > 1e-6 * max(1.0, float(scale.max())), scale, np.inf).astype(np.float32)
    _, lengths, directions = np.linalg.svd((features - mean) / scale, full_matrices=False)
    spread = lengths[:COMPONENTS] / np.sqrt(max(len(features) - 1, 1))
    useful = np.flatnonzero(spread > 1e-3)
    return mean, scale, directions[useful].astype(np.float32), spread[useful].astype(np.float32)
