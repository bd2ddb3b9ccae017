"""Three cheap checks before a long training: chance, over-fitting on purpose, shuffled labels.

Each ends in a verdict. They find what a long training hides: outputs that start wrong, a network that cannot learn,
images of training among those of validation.

References:
    Karpathy, "A recipe for training neural networks", 2019, karpathy.github.io/2019/04/25/recipe.
    Zhang et al., "Understanding deep learning requires rethinking generalization", ICLR 2017, arXiv:1611.03530.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from cxr_pipeline.experiments.permuted_auc import mean_auc, null_bound
from cxr_pipeline.experiments.sanity_images import balanced_subset, shuffle_labels
from cxr_pipeline.training.augmentation import STRENGTHS
from cxr_pipeline.training.fitting import fit, predict
from cxr_pipeline.training.image_sets import ImageSet
from cxr_pipeline.training.networks.build import is_frozen
from cxr_pipeline.training.networks.heads import OUTPUT
from cxr_pipeline.training.networks.losses import build_loss
from cxr_pipeline.training.settings import TrainingSettings

if TYPE_CHECKING:
    from keras import Model
    from keras.initializers import Initializer

    from cxr_pipeline.training.checkpoints import Row

# Draws of the output layer: one of them alone may lie at twice the loss of chance.
DRAWS = 64
# Where the backbone is pretrained, its top has to learn too, before the head alone has done it.
HEAD_EPOCHS = 3
_UNCHANGED: dict[str, Any] = {**dict.fromkeys(STRENGTHS, 0), "views": 0, "seed": 0}


@dataclass(frozen=True)
class Subject:
    """What is checked: the training of a task.

    Args:
        build: makes a fresh network without dropout.
        train: images that are learnt from, as often as they are shown.
        validation: images that choose the epoch.
        settings: how.
        exclusive: exactly one of the network's outputs is true of an image.
        folder: where feature caches lie.
        checkpoints: folder of the trainings.
    """

    build: Callable[[], Model]
    train: ImageSet
    validation: ImageSet
    settings: TrainingSettings
    exclusive: bool
    folder: Path
    checkpoints: Path


@dataclass(frozen=True)
class Verdict:
    """What a check found.

    Args:
        name: ``chance``, ``overfitting`` or ``shuffled_labels``.
        passed: whether all is well.
        measured, expected: numbers by name; None where one is not defined.
        sentence: the same for a reader.
        usual_cause: what a failure usually means.
        epochs: the training that the check ran, a mapping of numbers for each epoch.
    """

    name: str
    passed: bool
    measured: Mapping[str, float | None]
    expected: Mapping[str, float | None]
    sentence: str
    usual_cause: str
    epochs: tuple[Mapping[str, float | None], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self) | {"epochs": list(self.epochs)}


def check_chance(subject: Subject, *, n_images: int, max_ratio: float, seed: int) -> Verdict:
    """Does the untrained network know nothing, and is it sure of nothing?

    What is measured is the cross-entropy of the first training step, both values of a label (or all exclusive
    classes) weighing the same. It is averaged over fresh draws of the output weights, while the biases stay: one draw
    alone says more about luck than about the network.

    Args:
        subject: what is checked.
        n_images: training images, balanced over the classes.
        max_ratio: how many times more, or less, than that of chance the loss may be.
        seed: of the images and of the draws.
    """
    images = balanced_subset(subject.train, n_images, seed=seed)
    loss = build_loss("weighted_cross_entropy", prevalence=images.prevalence, exclusive=subject.exclusive)
    scores = _untrained_scores(subject.build(), images, subject.settings.batch_size, seed)
    n_outputs = images.y.shape[1]
    guess = np.full(images.y.shape, 1 / n_outputs if subject.exclusive else 0.5, np.float32)
    measured = float(np.mean([np.mean(loss(images.y, drawn)) for drawn in scores]))
    chance = float(np.mean(loss(images.y, guess)))
    passed = chance / max_ratio <= measured <= chance * max_ratio
    return Verdict(
        name="chance",
        passed=passed,
        measured={"loss": _number(measured)},
        expected={"loss": chance, "at_least": chance / max_ratio, "at_most": chance * max_ratio},
        sentence=f"The loss of the untrained network is {measured:.3f}; chance gives {chance:.3f}, and "
        f"{chance / max_ratio:.3f} to {chance * max_ratio:.3f} was expected.",
        usual_cause="the outputs start with a bias, the images reach the network on another scale than it was made "
        "for, or the labels are not those of its outputs",
    )


def check_overfitting(
    subject: Subject, *, n_images: int, epochs: int, max_loss: float, min_auc: float, seed: int
) -> Verdict:
    """Can the network learn a few images by heart?

    It is trained as configured, but without augmentation, dropout and weight decay, at a constant rate, until it
    can. Loss and AUC are those of the same images after each epoch, as the network is used.

    Args:
        subject: what is checked.
        n_images: training images, balanced over the classes.
        epochs: at most so many, of the last phase.
        max_loss: the loss that must be reached.
        min_auc: the AUC that must be reached, mean over the outputs.
        seed: of the images.
    """
    images = balanced_subset(subject.train, n_images, seed=seed)
    rows: list[Row] = []

    def learnt(row: Mapping[str, Any]) -> bool:
        return bool(row["val_loss"] <= max_loss and row["val_auc"] >= min_auc)

    def stop_when_learnt(row: Row) -> None:
        rows.append(row)
        if learnt(row):
            raise _Learnt

    _fit_until_learnt(subject, images, epochs=epochs, on_epoch=stop_when_learnt)
    last = rows[-1]
    loss, auc = float(last["val_loss"]), float(last["val_auc"])
    return Verdict(
        name="overfitting",
        passed=learnt(last),
        measured={"loss": _number(loss), "auc": _number(auc), "epochs": len(rows), "images": len(images.y)},
        expected={"loss": max_loss, "auc": min_auc},
        sentence=f"{len(images.y)} training images, learnt by heart for {len(rows)} epochs: loss {loss:.4f}, AUC "
        f"{auc:.4f}; at most {max_loss:g} and at least {min_auc:g} were expected.",
        usual_cause="the learning rate is far too low or too high, the epochs are too few, labels contradict each "
        "other or belong to other images, or the images reach the network empty",
        epochs=tuple({"loss": _number(float(row["val_loss"])), "auc": _number(float(row["val_auc"]))} for row in rows),
    )


def check_shuffled_labels(
    subject: Subject, *, epochs: int, false_alarms: float, permutations: int, seed: int
) -> Verdict:
    """Is there nothing that validation images could be told by but their labels?

    The labels are dealt anew to the images of training and validation together, equal contents keeping equal labels,
    and learnt by heart as far as the epochs go: without augmentation, dropout and weight decay, with which a network
    would learn no shuffled label and so give no leak away. Who then knows validation labels has seen these images in
    training. What counts is the last epoch, not the best, which flatters itself.

    Args:
        subject: what is checked.
        epochs: at most so many; of the head alone where the backbone is pretrained.
        false_alarms: how often a sound pipeline may fail, in (0, 1).
        permutations: from which the bound of the AUC is taken, see `null_bound`.
        seed: deals the labels, and draws the permutations.
    """
    train, validation, contents = shuffle_labels(subject.train, subject.validation, seed=seed)
    rows: list[Row] = []
    # No epoch is worse than the best by more than infinity: the last one is kept.
    settings = replace(
        _plain(subject.settings),
        epochs=epochs,
        fine_tuning=replace(subject.settings.fine_tuning, epochs=0),
        tolerance=math.inf,
    )
    model, _ = fit(
        model=subject.build(),
        train=train,
        validation=validation,
        settings=settings,
        exclusive=subject.exclusive,
        augmentation=_UNCHANGED,
        features=subject.folder,
        checkpoints=subject.checkpoints,
        on_epoch=rows.append,
    )
    scores = predict(model, validation.images, validation.sha256.tolist())
    auc = float(mean_auc(validation.y[np.newaxis], scores)[0])
    bound = null_bound(
        validation.y, scores, contents=contents, false_alarms=false_alarms, permutations=permutations, seed=seed
    )
    return Verdict(
        name="shuffled_labels",
        passed=abs(auc - 0.5) <= bound,
        measured={
            "auc": _number(auc),
            "training_loss": float(rows[-1]["loss"]),
            "epochs": len(rows),
            "images": len(scores),
        },
        expected={"auc": 0.5, "at_least": _number(0.5 - bound), "at_most": _number(0.5 + bound)},
        sentence=f"Trained on shuffled labels for {len(rows)} epochs, the network reaches an AUC of {auc:.3f} on "
        f"{len(scores)} validation images; 0.5, or {0.5 - bound:.3f} to {0.5 + bound:.3f}, was expected.",
        usual_cause="images of training are among those of validation, or something in an image gives its label away",
        epochs=tuple({"loss": float(row["loss"]), "auc": _number(float(row["val_auc"]))} for row in rows),
    )


def _untrained_scores(model: Model, images: ImageSet, batch_size: int, seed: int) -> list[np.ndarray]:
    """Outputs [n, k] of the first training step, for each draw of the output weights; the model is spent."""
    output = model.get_layer(OUTPUT)
    network = keras.Model(model.input, output.input)
    starts = range(0, len(images.sha256), batch_size)
    batches = [images.images.read(images.sha256[start : start + batch_size].tolist()) for start in starts]
    hidden = np.concatenate([np.asarray(network(batch[..., np.newaxis], training=True)) for batch in batches])
    scores = []
    for draw in range(DRAWS):
        output.kernel.assign(_reseeded(output.kernel_initializer, seed + draw)(output.kernel.shape))
        scores.append(np.asarray(output(hidden)))
    return scores


def _reseeded(initializer: Initializer, seed: int) -> Initializer:
    """The same initialiser with another seed, if it draws at all."""
    config = initializer.get_config()
    return type(initializer).from_config(config | {"seed": seed} if "seed" in config else config)


class _Learnt(Exception):
    """Ends a training whose images are learnt by heart."""


def _fit_until_learnt(subject: Subject, images: ImageSet, *, epochs: int, on_epoch: Callable[[Row], None]) -> None:
    model = subject.build()
    in_two_phases = is_frozen(model) and subject.settings.fine_tuning.epochs > 0
    settings = replace(
        _plain(subject.settings),
        epochs=HEAD_EPOCHS if in_two_phases else epochs,
        fine_tuning=replace(subject.settings.fine_tuning, epochs=epochs if in_two_phases else 0),
    )
    with TemporaryDirectory() as checkpoints, suppress(_Learnt):
        fit(
            model=model,
            train=images,
            validation=images,
            settings=settings,
            exclusive=subject.exclusive,
            augmentation=_UNCHANGED,
            features=subject.folder,
            checkpoints=Path(checkpoints),
            on_epoch=on_epoch,
        )


def _plain(settings: TrainingSettings) -> TrainingSettings:
    """Without what keeps a network from learning by heart."""
    return replace(settings, schedule="constant", weight_decay=0.0, head_weight_decay=0.0, patience=None)


def _number(value: float) -> float | None:
    """JSON has no NaN."""
    return value if math.isfinite(value) else None


CHECKS: dict[str, Callable[..., Verdict]] = {
    "chance": check_chance,
    "overfitting": check_overfitting,
    "shuffled_labels": check_shuffled_labels,
}
