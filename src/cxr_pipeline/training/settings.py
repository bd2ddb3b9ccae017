"""Settings of a training, and the versions that its result depends on. Neither needs TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Self

# Increase it when the same settings train differently, or when checkpoints are stored differently.
FITTING = 3
# Increase it when the same key gives other features, such as after a change of rendering or rounding.
FEATURES = 1


def training_versions() -> dict[str, str]:
    """Return the versions of the training code and of the libraries that it uses."""
    libraries = {library: version(library) for library in ("keras", "tensorflow")}
    return {"fitting": str(FITTING), "features": str(FEATURES), **libraries}


@dataclass(frozen=True)
class FineTuningSettings:
    """Settings of the second phase of a pretrained backbone, with at most ``epochs``; 0 skips the phase.

    Args:
        cut: layer of the backbone below which nothing is trained; None for the backbone's default.
    """

    cut: str | None
    epochs: int
    learning_rate: float
    batch_size: int


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of a training; see `build_loss`, `build_optimizer` and `EpochSelector`.

    Args:
        head_weight_decay: weight decay of a head trained alone, on the features of a frozen backbone.
        epochs: largest number of epochs; of the head alone if the backbone is pretrained.
        mixed_bfloat16: compute in bfloat16, keep the weights in float32.
        seed: seed of the order of images.
    """

    loss: str
    optimizer: str
    learning_rate: float
    schedule: str
    weight_decay: float
    head_weight_decay: float
    epochs: int
    batch_size: int
    monitor: str
    tolerance: float
    patience: int | None
    mixed_bfloat16: bool
    seed: int
    fine_tuning: FineTuningSettings

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build from nested mappings, such as the ``training`` parameters."""
        return cls(**{**values, "fine_tuning": FineTuningSettings(**values["fine_tuning"])})
