"""Settings of a training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True)
class FineTuningSettings:
    """Settings of the second phase of a pretrained backbone.

    Args:
        cut: layer of the backbone below which nothing is trained; None for the backbone's default.
        epochs: largest number of epochs; 0 skips the phase.
        learning_rate: learning rate of the first step of the phase.
        batch_size: images per step.
    """

    cut: str | None
    epochs: int
    learning_rate: float
    batch_size: int


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of a training.

    Args:
        loss: name of a loss, see `build_loss`.
        optimizer: name of an optimizer, see `build_optimizer`.
        learning_rate: learning rate of the first step.
        schedule: ``constant`` or ``cosine``.
        weight_decay: decoupled weight decay.
        head_weight_decay: weight decay of a head trained alone, on the features of a frozen backbone.
        epochs: largest number of epochs; of the head alone if the backbone is pretrained.
        batch_size: images per step.
        monitor: metric that selects the epoch, see `EpochSelector`.
        tolerance: see `EpochSelector`.
        patience: see `EpochSelector`.
        mixed_bfloat16: compute in bfloat16, keep the weights in float32.
        seed: seed of the order of images.
        fine_tuning: the second phase.
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
        """Build from nested mappings, such as the ``training`` parameters.

        Raises:
            TypeError: a key is missing or unknown.
        """
        return cls(**{**values, "fine_tuning": FineTuningSettings(**values["fine_tuning"])})
