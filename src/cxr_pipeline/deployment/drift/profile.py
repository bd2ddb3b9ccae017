"""The profile of the images that a model comes from: small, without an image and without a patient."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.common.files import written_atomically
from cxr_pipeline.deployment.drift.image_features import Observed
from cxr_pipeline.deployment.drift.pixel_statistics import STATISTICS

VERSION = 2
COMPONENTS = 16
_TEXTS = ("outputs", "sources")


@dataclass(frozen=True, eq=False)
class Profile:
    """What new images are compared with.

    Pixels and prevalence are those of training images. What went through the network is that of validation images: of
    the images that it learnt from a network is surer than of any others, so that new images of the very same kind
    would look like drift beside them. Each patient is in it with one image, in no order that could be found again.

    Args:
        outputs: of the model, k.
        sources: names of the sources that the images come from; empty for images of which none is known.
        statistics: of training images, float32 [n, s].
        labels: of training images, float64 [n, k], NaN where unknown.
        training_source: of training images, the place of their source among ``sources``, int64 [n].
        mean, scale: of the features of training images, float32 [d].
        components: principal directions of the standardised features of training images, unit rows, float32 [c, d].
        spread: standard deviations along them, float32 [c].
        features: of validation images, as ``project`` gives them, float32 [m, c + 1].
        probability: of validation images, float64 [m, k].
        y_true: labels of validation images, float64 [m, k], NaN where unknown.
        held_out_source: of validation images, the same, int64 [m].
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

    def like(self, sources: NDArray[np.str_], *, at_least: int, seed: int) -> Self:
        """Draw the images by lot so that each source has the share that it has among new images, as many as can be.

        What grows from one source alone is no drift because it is unlike the mixture of all.

        Args:
            sources: of new images, text [n].
            at_least: where fewer training images, or validation images, would be drawn, all of these are kept; so where
                a source of the new images is not among the profile's.
            seed: of the lot.
        """
        if not len(sources) or not np.isin(sources, self.sources).all():
            return self
        shares = np.array([np.mean(sources == name) for name in self.sources])
        rng = np.random.default_rng(seed)
        learned, held_out = (
            _drawn(codes, shares, at_least, rng) for codes in (self.training_source, self.held_out_source)
        )
        return replace(
            self,
            statistics=self.statistics[learned],
            labels=self.labels[learned],
            training_source=self.training_source[learned],
            features=self.features[held_out],
            probability=self.probability[held_out],
            y_true=self.y_true[held_out],
            held_out_source=self.held_out_source[held_out],
        )

    def project(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Bring features [n, d] to the principal directions of the training images, each with variance 1 there.

        Returns:
            float32 [n, c + 1]; the last column is the logarithm of what the directions leave over.
        """
        return _project(features, self.mean, self.scale, self.components, self.spread)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """The profile as arrays of numbers and one of text, none of which needs pickle."""
        texts = {name: list(getattr(self, name)) for name in _TEXTS}
        about = {"version": VERSION, **texts, "statistics": list(STATISTICS)}
        arrays = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in _TEXTS}
        return {"about": np.array(json.dumps(about)), **arrays}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Restore a profile from what ``to_arrays`` gave.

        Raises:
            UserError: it was made by another version of this package.
        """
        about = json.loads(str(arrays["about"]))
        if (about["version"], about["statistics"]) != (VERSION, list(STATISTICS)):
            raise UserError(
                "The model's profile for drift was made by another version of this package: expected version "
                f"{VERSION}, found {about['version']}. Train the model again, or look for drift with the package that "
                "trained it."
            )
        values: dict[str, Any] = {name: tuple(about[name]) for name in _TEXTS}
        values |= {field.name: arrays[field.name] for field in fields(cls) if field.name not in _TEXTS}
        return cls(**values)

    def save(self, path: Path) -> None:
        """Write the profile as ``.npz``, atomically."""
        with written_atomically(path) as beside:
            np.savez_compressed(beside, allow_pickle=False, **self.to_arrays())

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a profile that ``save`` wrote; no code comes out of the file."""
        with np.load(path, allow_pickle=False) as arrays:
            return cls.from_arrays(arrays)


def reference_profile(training: Observed, held_out: Observed, *, outputs: Sequence[str], seed: int) -> Profile:
    """Make the profile of a model's own images.

    Args:
        training: images that the model learnt from, one a patient.
        held_out: validation images, one a patient.
        outputs: of the model.
        seed: of the order in which the images are kept.

    Raises:
        UserError: there is no training image.
    """
    if not len(training):
        raise UserError("A profile for drift needs training images; found none.")
    rng = np.random.default_rng(seed)
    shuffled, kept = rng.permutation(len(training)), rng.permutation(len(held_out))
    sources = np.unique(np.concatenate([training.source, held_out.source]))
    mean, scale, components, spread = _directions(training.features)
    return Profile(
        outputs=tuple(outputs),
        sources=tuple(sources.tolist()),
        statistics=training.statistics[shuffled],
        labels=training.y_true[shuffled],
        training_source=np.searchsorted(sources, training.source[shuffled]).astype(np.int64),
        mean=mean,
        scale=scale,
        components=components,
        spread=spread,
        features=_project(held_out.features, mean, scale, components, spread)[kept],
        probability=held_out.probability[kept],
        y_true=held_out.y_true[kept],
        held_out_source=np.searchsorted(sources, held_out.source[kept]).astype(np.int64),
    )


def _drawn(
    codes: NDArray[np.int64], shares: NDArray[np.float64], at_least: int, rng: np.random.Generator
) -> NDArray[np.intp]:
    """Draw places of images so that each source has its share; ascending."""
    there = np.bincount(codes, minlength=len(shares))
    n_images = (there[shares > 0] / shares[shares > 0]).min()
    counts = np.floor(n_images * shares + 1e-9).astype(int)
    if counts.sum() < at_least:
        return np.arange(len(codes))
    drawn = [rng.choice(np.flatnonzero(codes == code), count, replace=False) for code, count in enumerate(counts)]
    return np.sort(np.concatenate(drawn))


def _directions(features: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
    """Mean [d], scale [d] (infinite for dead features), principal directions [c, d], and the spread along them [c]."""
    mean, scale = features.mean(axis=0), features.std(axis=0)
    scale = np.where(scale > 1e-6 * max(1.0, float(scale.max())), scale, np.inf).astype(np.float32)
    _, lengths, directions = np.linalg.svd((features - mean) / scale, full_matrices=False)
    spread = lengths[:COMPONENTS] / np.sqrt(max(len(features) - 1, 1))
    useful = np.flatnonzero(spread > 1e-3)
    return mean, scale, directions[useful].astype(np.float32), spread[useful].astype(np.float32)


def _project(
    features: NDArray[np.float32],
    mean: NDArray[np.float32],
    scale: NDArray[np.float32],
    components: NDArray[np.float32],
    spread: NDArray[np.float32],
) -> NDArray[np.float32]:
    finite = np.where(np.isfinite(features), features, np.nan)
    standard = (finite - mean) / scale
    along = standard @ components.T
    left = np.sqrt(np.mean((standard - along @ components) ** 2, axis=1, keepdims=True))
    return np.hstack([along / spread, np.log(left + 1e-3)]).astype(np.float32)
