"""Parameters of the network, its training with augmentation, the sanity checks, decision rules and evaluation."""

from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator

from cxr_pipeline.framework.config.data import Task
from cxr_pipeline.framework.config.parameters import Fraction, Parameters, Seed
from cxr_pipeline.training.networks.weights import ARCHITECTURES, find_weights
from cxr_pipeline.training.settings import FineTuningSettings, TrainingSettings


def _architecture(name: str) -> str:
    if name not in ARCHITECTURES:
        close = get_close_matches(name, ARCHITECTURES, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise ValueError(f"expected one of {', '.join(ARCHITECTURES)}, found {name!r}{hint}")
    return name


class Network(Parameters):
    """The network.

    Args:
        name: ``small_cnn``, ``cnn`` or a backbone.
        weights: ``none``, ``imagenet``, or the path of a weights file; ``imagenet`` weights are searched in
            ``<raw>/weights/`` and in Keras' cache before they are downloaded.
        head_units, dropout, pooling: see `build_model`.
    """

    name: Annotated[str, AfterValidator(_architecture)]
    weights: str
    head_units: Annotated[int, Field(ge=0, le=4096)]
    dropout: Annotated[float, Field(ge=0, lt=1)]
    pooling: Literal["average", "multilevel"]

    def build(self, *, size: int, task: Task, training: "Training", raw: Path) -> Any:
        """Build the network of a task for images with a side of ``size`` pixels."""
        from cxr_pipeline.training.networks.build import build_model

        return build_model(
            **self.model_dump(exclude={"weights"}),
            weights_file=find_weights(self.name, self.weights, raw),
            size=size,
            n_outputs=len(task.outputs),
            exclusive=task.exclusive,
            cut=training.fine_tuning.cut,
            seed=training.seed,
        )


# mypy does not see that `Parameters` are frozen, too.
class FineTuning(Parameters, FineTuningSettings):  # type: ignore[misc]
    """The second phase of a pretrained backbone."""


class Training(Parameters, TrainingSettings):  # type: ignore[misc]
    """The training of the network."""

    fine_tuning: FineTuning


class Augmentation(Parameters):
    """Random changes of a training image, see `build_augmentation`; 0 disables a change.

    Args:
        flip: mirror left and right; off by default, because the heart is on the left.
        views: number of augmented views of each training image for which features of a frozen backbone are cached.
    """

    rotation: Annotated[float, Field(ge=0, le=180)]
    translation: Annotated[float, Field(ge=0, lt=1)]
    zoom: Annotated[float, Field(ge=0, lt=1)]
    brightness: Fraction
    contrast: Fraction
    noise: Fraction
    flip: bool
    views: Annotated[int, Field(ge=0, le=100)]
    seed: Seed


class Chance(Parameters):
    """The loss of the untrained network must be that of chance, up to a ratio; see `check_chance`."""

    n_images: Annotated[int, Field(ge=2)]
    max_ratio: Annotated[float, Field(gt=1)]


class Overfitting(Parameters):
    """The network must be able to memorise a few images in at most ``epochs``; see `check_overfitting`."""

    n_images: Annotated[int, Field(ge=2)]
    epochs: Annotated[int, Field(ge=1)]
    max_loss: Annotated[float, Field(gt=0)]
    min_auc: Fraction


class ShuffledLabels(Parameters):
    """A network trained on shuffled labels must not predict those of validation images better than chance.

    See `check_shuffled_labels` and `null_bound`.
    """

    epochs: Annotated[int, Field(ge=1)]
    false_alarms: Annotated[float, Field(gt=0, lt=1)]
    permutations: Annotated[int, Field(ge=100, le=1_000_000)]


class Sanity(Parameters):
    """The three checks, with the seed of their images, output weights and labels."""

    chance: Chance
    overfitting: Overfitting
    shuffled_labels: ShuffledLabels
    seed: Seed


class PlainPolicy(Parameters):
    """A threshold policy without a value; ``argmax`` predicts the most probable of exclusive classes."""

    rule: Literal["youden", "argmax"]


class ValuePolicy(Parameters):
    """A fixed threshold, or a target to reach; see `choose_threshold`."""

    rule: Literal["fixed", "target_sensitivity", "target_specificity"]
    value: Fraction


Policy = Annotated[PlainPolicy | ValuePolicy, Field(discriminator="rule")]


class Thresholds(Parameters):
    """Calibration and threshold policy, fitted on validation images; ``compared`` are other policies to report."""

    calibration: Literal["none", "temperature", "platt"]
    policy: Policy
    compared: tuple[Policy, ...] = ()


class Evaluation(Parameters):
    """Confidence intervals; those of differences and of the calibration error come from a bootstrap."""

    replicates: Annotated[int, Field(ge=100, le=100_000)]
    confidence: Annotated[float, Field(gt=0, lt=1)]
    seed: Seed


class Subgroups(Parameters):
    """Subgroups of the test images.

    Args:
        ages: first age of each band but the lowest, in years: [18, 65] means 0 to 17, 18 to 64, and 65 and older.
        min_patients: patients that a group must have both with and without a class for metrics of that class.
    """

    ages: tuple[Annotated[int, Field(ge=1, le=120)], ...]
    min_patients: Annotated[int, Field(ge=2)]

    @field_validator("ages")
    @classmethod
    def _rising(cls, ages: tuple[int, ...]) -> tuple[int, ...]:
        if list(ages) != sorted(set(ages)):
            raise ValueError(f"ages must be increasing, found {list(ages)}")
        return ages
