"""Settings of a training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self


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
    """Settings of a training.

    Args:
        loss: see `build_loss`.
        optimizer: see `build_optimizer`.
        learning_rate: that of the first step.
        schedule: ``constant`` or ``cosine``.
        head_weight_decay: weight decay of a head trained alone, on the features of a frozen backbone.
        epochs: largest number of epochs; of the head alone if the backbone is pretrained.
        monitor, tolerance, patience: see `EpochSelector`.
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
