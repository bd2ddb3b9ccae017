"""Settings of a training, whose types and bounds the configuration checks, and versions that its result depends on.

Neither needs TensorFlow.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Interval

from cxr_pipeline.training.epoch_selection import EpochSelector, Monitor

# Increase it when the same settings train differently, or when checkpoints are stored differently.
FITTING = 4
# Increase it when the same key gives other features, such as after a change of rendering or rounding.
FEATURES = 1


def training_versions() -> dict[str, str]:
    """Return the versions of the training code and of the libraries that it uses."""
    libraries = {library: version(library) for library in ("keras", "tensorflow")}
    return {"fitting": str(FITTING), "features": str(FEATURES), **libraries}


@dataclass(frozen=True)
class FineTuningSettings:
    """Settings of the second phase of a pretrained backbone, with at most ``epochs``; 0 skips the phase.

    Below the layer ``cut``, or the backbone's default, nothing is trained.
    """

    cut: str | None
    epochs: Annotated[int, Ge(0)]
    learning_rate: Annotated[float, Gt(0)]
    batch_size: Annotated[int, Ge(1)]


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of a training; see `build_loss`, `build_optimizer` and `EpochSelector`.

    ``folds`` is the number of networks, each validated on one fold of the patients; see `member_splits`.
    If the backbone is pretrained, ``epochs`` (the largest number) and ``head_weight_decay`` are those of the head,
    which is trained alone first. With ``mixed_bfloat16``, the weights stay in float32.
    """

    loss: Literal["cross_entropy", "weighted_cross_entropy", "focal"]
    optimizer: Literal["adam", "adamw", "adamax", "sgd", "rmsprop"]
    learning_rate: Annotated[float, Gt(0)]
    schedule: Literal["constant", "cosine"]
    weight_decay: Annotated[float, Ge(0)]
    head_weight_decay: Annotated[float, Ge(0)]
    epochs: Annotated[int, Ge(1)]
    batch_size: Annotated[int, Ge(1)]
    monitor: Monitor
    tolerance: Annotated[float, Ge(0)]
    patience: Annotated[int, Ge(1)] | None
    mixed_bfloat16: bool
    seed: Annotated[int, Interval(ge=0, lt=2**31)]
    folds: Annotated[int, Interval(ge=1, le=20)]
    fine_tuning: FineTuningSettings

    @property
    def selector(self) -> EpochSelector:
        """The rule that selects the epoch of the final weights."""
        return EpochSelector.of_training(**vars(self))
