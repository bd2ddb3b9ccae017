"""Parameters of the network, its training with augmentation, the sanity checks, decision rules and evaluation."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pandas as pd
from pydantic import Field, field_validator

from cxr_pipeline.framework.config.data import Folders, Task
from cxr_pipeline.framework.config.network import Network
from cxr_pipeline.framework.config.parameters import Fraction, Parameters, Seed
from cxr_pipeline.training.settings import FineTuningSettings, TrainingSettings

if TYPE_CHECKING:
    from cxr_pipeline.data.images.store import PreparedImages


# mypy does not see that `Parameters` are frozen, too.
class FineTuning(Parameters, FineTuningSettings):  # type: ignore[misc]
    """The second phase of a pretrained backbone.

    Args:
        cut: layer below which nothing is trained; null for the default of the backbone.
        epochs: largest number of epochs; 0 skips the phase.
        learning_rate: learning rate at the start of the phase.
        batch_size (images): images in a step.
    """


class Training(Parameters, TrainingSettings):  # type: ignore[misc]
    """The training of the network, see `build_loss`, `build_optimizer` and `EpochSelector`.

    Args:
        loss: ``weighted_cross_entropy`` gives all classes the same total weight; ``focal`` has gamma 2.
        optimizer: ``sgd`` has a momentum of 0.9.
        learning_rate: learning rate at the start; of a pretrained backbone, that of the head, which is trained alone
            first.
        schedule: ``cosine`` decreases the learning rate to 0 over all steps.
        weight_decay: fraction of a weight, times the learning rate, that each step subtracts; not from biases and batch
            normalisation.
        head_weight_decay: the same, while the head of a pretrained backbone is trained alone.
        epochs: largest number of epochs; of a pretrained backbone, those of the head.
        batch_size (images): images in a step.
        monitor: metric of the validation images that selects the epoch.
        tolerance (of the metric): the latest epoch is selected that is at most so much worse than the best.
        patience (epochs): epochs without a newly selected one before the phase ends; null to never end early.
        mixed_bfloat16: compute in bfloat16; the weights stay in float32.
        seed: seed of weights, dropout and the order of images.
        folds: with 1, one network is trained on the training images and validated on the validation images. With k, the
            patients of both are divided into k folds, and an ensemble of k networks is trained, each validated on one
            fold and trained on the others.
        fine_tuning: second phase of a pretrained backbone.
    """

    fine_tuning: FineTuning

    def fit(
        self,
        network: Network,
        images: "PreparedImages",
        manifest: pd.DataFrame,
        splits: pd.DataFrame,
        sampling_plan: pd.DataFrame,
        *,
        task: Task,
        augmentation: "Augmentation",
        folders: Folders,
        on_epoch: Callable[[dict[str, Any]], None],
    ) -> tuple[Any, pd.DataFrame]:
        """Train one network on the images of a sampling plan; return it with its history, see `fitting.fit`."""
        from cxr_pipeline.training.fitting import fit
        from cxr_pipeline.training.image_sets import image_sets

        train, validation = image_sets(images, manifest, splits, sampling_plan, outputs=task.outputs)
        return fit(
            model=network.build(size=images.recipe.size, task=task, training=self, raw=folders.raw),
            train=train,
            validation=validation,
            settings=self,
            exclusive=task.exclusive,
            augmentation=augmentation.model_dump(),
            features=folders.features,
            checkpoints=folders.checkpoints,
            on_epoch=on_epoch,
        )


class Augmentation(Parameters):
    """Random changes of a training image, see `build_augmentation`; 0 disables a change.

    Args:
        rotation (degrees): largest angle.
        translation (of the side): largest shift.
        zoom (of the side): largest change of scale.
        brightness (of the grey range): largest shift of all grey levels.
        contrast: largest relative change of contrast.
        noise (of the grey range): standard deviation of Gaussian noise.
        flip: mirror left and right; off by default, because the heart is on the left.
        views: number of augmented views of each training image for which features of a frozen backbone are cached.
        seed: seed of all changes.
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
    """The loss of the untrained network must be that of chance, up to a ratio; see `check_chance`.

    Args:
        n_images (images): training images, balanced over the classes.
        max_ratio: loss of the untrained network divided by the loss of chance, or the reverse.
    """

    n_images: Annotated[int, Field(ge=2)]
    max_ratio: Annotated[float, Field(gt=1)]


class Overfitting(Parameters):
    """The network must be able to memorise a few images; see `check_overfitting`.

    Args:
        n_images (images): training images, balanced over the classes.
        epochs: largest number of epochs.
        max_loss: largest loss that counts as memorised.
        min_auc: smallest AUC that counts as memorised.
    """

    n_images: Annotated[int, Field(ge=2)]
    epochs: Annotated[int, Field(ge=1)]
    max_loss: Annotated[float, Field(gt=0)]
    min_auc: Fraction


class ShuffledLabels(Parameters):
    """A network trained on shuffled labels must not predict those of validation images better than chance.

    See `check_shuffled_labels` and `null_bound`.

    Args:
        epochs: largest number of epochs.
        false_alarms: probability that the check fails although the network is at chance.
        permutations: permutations of the labels from which the bound is computed.
    """

    epochs: Annotated[int, Field(ge=1)]
    false_alarms: Annotated[float, Field(gt=0, lt=1)]
    permutations: Annotated[int, Field(ge=100, le=1_000_000)]


class Sanity(Parameters):
    """The three checks.

    Args:
        chance: loss of the untrained network.
        overfitting: memorising a few images.
        shuffled_labels: training on shuffled labels.
        seed: seed of the images, output weights and labels of the checks.
    """

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
    """Calibration and threshold policy, fitted on validation images; see `choose_threshold`.

    Args:
        calibration: fit of the probabilities; ``temperature`` for exclusive classes, ``platt`` for the others.
        policy: ``{rule: youden}``; ``{rule: argmax}``, the most probable of exclusive classes; or ``fixed``,
            ``target_sensitivity`` or ``target_specificity`` with a ``value`` from 0 to 1, such as ``{rule: fixed,
            value: 0.3}``.
        compared: other policies to report.
    """

    calibration: Literal["none", "temperature", "platt"]
    policy: Policy
    compared: tuple[Policy, ...] = ()


class Evaluation(Parameters):
    """Scores of images, and confidence intervals; some of these come from a bootstrap.

    Args:
        views: number of views of each image whose scores are averaged: the image itself, and others with half of the
            changes of the augmentation and without noise and mirroring.
        replicates: replicates of the bootstrap.
        confidence: confidence level of the intervals.
        seed: seed of the bootstrap and of the views.
    """

    views: Annotated[int, Field(ge=1, le=100)]
    replicates: Annotated[int, Field(ge=100, le=100_000)]
    confidence: Annotated[float, Field(gt=0, lt=1)]
    seed: Seed

    @property
    def bootstrap(self) -> dict[str, Any]:
        """Settings of the bootstrap."""
        return self.model_dump(exclude={"views"})

    def average_views(self, model: Any, augmentation: Augmentation) -> Any:
        """Return the model whose score is the mean over the views."""
        from cxr_pipeline.training.networks.views import with_views

        return with_views(model, self.views, augmentation.model_dump(), self.seed)


class Subgroups(Parameters):
    """Subgroups of the test images.

    Args:
        ages (years): first age of each band but the lowest: [18, 65] means 0 to 17, 18 to 64, and 65 and older.
        min_patients (patients): patients that a group must have both with and without a class for metrics of that
            class.
    """

    ages: tuple[Annotated[int, Field(ge=1, le=120)], ...]
    min_patients: Annotated[int, Field(ge=2)]

    @field_validator("ages")
    @classmethod
    def _rising(cls, ages: tuple[int, ...]) -> tuple[int, ...]:
        if list(ages) != sorted(set(ages)):
            raise ValueError(f"ages must be increasing, found {list(ages)}")
        return ages
