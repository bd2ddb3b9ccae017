"""The profile of the films that a model comes from: small, without a film and without a patient."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cxr_pipeline.drift.observed import Observed
from cxr_pipeline.drift.pixels import STATISTICS
from cxr_pipeline.errors import UserError
from cxr_pipeline.files import written_atomically

VERSION = 1
COMPONENTS = 16


@dataclass(frozen=True, eq=False)
class Profile:
    """What new films are compared with.

    Pixels and prevalence are those of training films. What went through the network is that of validation films: of
    the films that it learnt from a network is surer than of any others, so that new films of the very same kind
    would look like drift beside them. Each patient is in it with one film, in no order that could be found again.

    Args:
        outputs: of the model, k.
        statistics: of training films, float32 [n, s].
        positive, known: training films with each label, and with a known one, int64 [k].
        mean, scale: of the features of training films, float32 [d].
        components: principal directions of the standardised features of training films, unit rows, float32 [c, d].
        spread: standard deviations along them, float32 [c].
        features: of validation films, as ``project`` gives them, float32 [m, c + 1].
        probability: of validation films, float64 [m, k].
        y_true: labels of validation films, float64 [m, k], NaN where unknown.
    """

    outputs: tuple[str, ...]
    statistics: NDArray[np.float32]
    positive: NDArray[np.int64]
    known: NDArray[np.int64]
    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    components: NDArray[np.float32]
    spread: NDArray[np.float32]
    features: NDArray[np.float32]
    probability: NDArray[np.float64]
    y_true: NDArray[np.float64]

    def project(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Bring features [n, d] to the principal directions of the training films, each with variance 1 there.

        Returns:
            float32 [n, c + 1]; the last column is the logarithm of what the directions leave over.
        """
        return _project(features, self.mean, self.scale, self.components, self.spread)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """The profile as arrays of numbers and one of text, none of which needs pickle."""
        about = {"version": VERSION, "outputs": list(self.outputs), "statistics": list(STATISTICS)}
        arrays = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "outputs"}
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
        names = [field.name for field in fields(cls) if field.name != "outputs"]
        return cls(tuple(about["outputs"]), **{name: arrays[name] for name in names})

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
    """Make the profile of a model's own films.

    Args:
        training: films that the model learnt from, one a patient.
        held_out: validation films, one a patient.
        outputs: of the model.
        seed: of the order in which the films are kept.

    Raises:
        UserError: there is no training film.
    """
    if not len(training):
        raise UserError("A profile for drift needs training films; found none.")
    rng = np.random.default_rng(seed)
    shuffled, kept = rng.permutation(len(training)), rng.permutation(len(held_out))
    known = ~np.isnan(training.y_true)
    mean, scale, components, spread = _directions(training.features)
    return Profile(
        outputs=tuple(outputs),
        statistics=training.statistics[shuffled],
        positive=np.nansum(training.y_true, axis=0).astype(np.int64),
        known=known.sum(axis=0).astype(np.int64),
        mean=mean,
        scale=scale,
        components=components,
        spread=spread,
        features=_project(held_out.features, mean, scale, components, spread)[kept],
        probability=held_out.probability[kept],
        y_true=held_out.y_true[kept],
    )


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
