"""Three cheap checks before a long training: the loss at chance, memorising a few images, shuffled labels.

The result of a check is JSON-able: its ``name``, whether it ``passed``, the numbers ``measured`` and ``expected`` by
name (None where undefined), a ``sentence``, the ``usual_cause`` of a failure, and metrics of the ``epochs``.

References:
    Karpathy, "A recipe for training neural networks", 2019, karpathy.github.io/2019/04/25/recipe.
    Zhang et al., "Understanding deep learning requires rethinking generalization", ICLR 2017, arXiv:1611.03530.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from cxr_pipeline.evaluation.metrics import mean_auc, null_bound
from cxr_pipeline.training.augmentation import STRENGTHS
from cxr_pipeline.training.fitting import fit, predict
from cxr_pipeline.training.image_sets import ImageSet
from cxr_pipeline.training.networks.build import OUTPUT, is_frozen
from cxr_pipeline.training.networks.losses import build_loss
from cxr_pipeline.training.settings import TrainingSettings

if TYPE_CHECKING:
    from keras import Model

    from cxr_pipeline.training.checkpoints import Row

# The loss of a single draw of the output layer can be twice that of chance.
N_DRAWS = 64
# Epochs of the head of a pretrained network that is also fine-tuned. With more, the head alone would memorise the
# images and the check would say nothing about the layers below it.
HEAD_EPOCHS = 3
_NO_AUGMENTATION: dict[str, Any] = {**dict.fromkeys(STRENGTHS, 0), "views": 0, "seed": 0}


@dataclass(frozen=True)
class Subject:
    """The training setup that is checked; ``build`` makes a new network without dropout."""

    build: Callable[[], Model]
    train: ImageSet
    validation: ImageSet
    settings: TrainingSettings
    exclusive: bool
    features: Path
    checkpoints: Path


def check_chance(subject: Subject, *, n_images: int, max_ratio: float, seed: int) -> dict[str, Any]:
    """Check that the loss of the untrained network is that of chance.

    Measures the cross-entropy of the first training step on ``n_images`` balanced over the classes, with equal weights
    for all classes. It is the mean over several draws of the output weights, with the biases unchanged, because a
    single draw is noisy. It may differ from that of chance by a factor of ``max_ratio`` in either direction.
    """
    images = balanced_subset(subject.train, n_images, seed=seed)
    loss = build_loss("weighted_cross_entropy", prevalence=images.prevalence, exclusive=subject.exclusive)
    draws = _untrained_scores(subject.build(), images, subject.settings.batch_size, seed)
    guess = np.full(images.y.shape, 1 / images.y.shape[1] if subject.exclusive else 0.5, np.float32)
    measured = float(np.mean([np.mean(loss(images.y, scores)) for scores in draws]))
    chance = float(np.mean(loss(images.y, guess)))
    low, high = chance / max_ratio, chance * max_ratio
    return {
        "name": "chance",
        "passed": low <= measured <= high,
        "measured": {"loss": _finite(measured)},
        "expected": {"loss": chance, "at_least": low, "at_most": high},
        "sentence": f"The loss of the untrained network is {measured:.3f}; expected {low:.3f} to {high:.3f}, around "
        f"the {chance:.3f} of chance.",
        "usual_cause": "the outputs have an initial bias, the pixels have another scale than the network expects, or "
        "the labels are not those of its outputs",
        "epochs": [],
    }


def check_overfitting(
    subject: Subject, *, n_images: int, epochs: int, max_loss: float, min_auc: float, seed: int
) -> dict[str, Any]:
    """Check that the network can memorise a few images, balanced over the classes.

    It is trained as configured, but without regularisation and at a constant learning rate, with at most ``epochs``
    epochs of the last phase. Loss and mean AUC are those of the same images after each epoch, in inference mode.
    """
    images, model = balanced_subset(subject.train, n_images, seed=seed), subject.build()
    plan = (HEAD_EPOCHS, epochs) if is_frozen(model) and subject.settings.fine_tuning.epochs > 0 else (epochs, 0)
    rows: list[Row] = []

    memorised = False

    def stop_when_memorised(row: Row) -> None:
        nonlocal memorised
        rows.append(row)
        memorised = float(row["val_loss"]) <= max_loss and float(row["val_auc"]) >= min_auc
        if memorised:
            raise _Memorised

    # Not the usual folder, in which checkpoints of a training run that is stopped early would remain.
    with TemporaryDirectory() as checkpoints, suppress(_Memorised):
        _fit(subject, model, images, images, plan, Path(checkpoints), stop_when_memorised)
    loss, auc = float(rows[-1]["val_loss"]), float(rows[-1]["val_auc"])
    return {
        "name": "overfitting",
        "passed": memorised,
        "measured": {"loss": _finite(loss), "auc": _finite(auc), "epochs": len(rows), "images": len(images.y)},
        "expected": {"loss": max_loss, "auc": min_auc},
        "sentence": f"Trained on {len(images.y)} images for {len(rows)} epochs, the network reaches a loss of "
        f"{loss:.4f} and an AUC of {auc:.4f} on them; expected at most {max_loss:g} and at least {min_auc:g}.",
        "usual_cause": "the learning rate is far too low or too high, there are too few epochs, labels contradict each "
        "other or belong to other images, or the images are empty",
        "epochs": [{"loss": _finite(row["val_loss"]), "auc": _finite(row["val_auc"])} for row in rows],
    }


def check_shuffled_labels(
    subject: Subject, *, epochs: int, false_alarms: float, permutations: int, seed: int
) -> dict[str, Any]:
    """Check that a network trained on shuffled labels cannot predict those of the validation images.

    The labels of training and validation images are shuffled together; equal images keep equal labels. Without
    regularisation, the network memorises its training images, so that it predicts validation labels only if these
    images are in the training set. The last epoch counts, because the best of several is optimistic. A pretrained
    backbone stays frozen. `null_bound` gives the bound of the AUC.
    """
    train, validation, contents = shuffle_labels(subject.train, subject.validation, seed=seed)
    rows: list[Row] = []
    model = _fit(subject, subject.build(), train, validation, (epochs, 0), subject.checkpoints, rows.append)
    scores = predict(model, validation.images, validation.sha256.tolist())
    auc, loss = float(mean_auc(validation.y[np.newaxis], scores)[0]), float(rows[-1]["loss"])
    bound = null_bound(
        validation.y, scores, contents=contents, false_alarms=false_alarms, permutations=permutations, seed=seed
    )
    return {
        "name": "shuffled_labels",
        "passed": abs(auc - 0.5) <= bound,
        "measured": {"auc": _finite(auc), "training_loss": loss, "epochs": len(rows), "images": len(scores)},
        "expected": {"auc": 0.5, "at_least": _finite(0.5 - bound), "at_most": _finite(0.5 + bound)},
        "sentence": f"Trained on shuffled labels for {len(rows)} epochs, the network reaches an AUC of {auc:.3f} on "
        f"{len(scores)} validation images; expected {0.5 - bound:.3f} to {0.5 + bound:.3f}.",
        "usual_cause": "training images are among the validation images, or something in an image reveals its label",
        "epochs": [{"loss": float(row["loss"]), "auc": _finite(row["val_auc"])} for row in rows],
    }


def balanced_subset(images: ImageSet, n_images: int, *, seed: int) -> ImageSet:
    """Draw images of each class, and images without any class, in turn until there are enough, each at most once.

    The subset is smaller if there are fewer images with a known label, and larger if there are more classes.
    """
    positive = images.y == 1
    none = ~positive.any(axis=1) & ~np.isnan(images.y).all(axis=1)
    rng = np.random.default_rng(seed)
    decks = [list(rng.permutation(np.flatnonzero(column))) for column in (*positive.T, none) if column.any()]
    size = max(n_images, len(decks))
    drawn: dict[int, None] = {}
    while any(decks) and len(drawn) < size:
        for deck in decks:
            # An image with several classes may have been drawn for another one.
            while deck and deck[-1] in drawn:
                deck.pop()
            if deck and len(drawn) < size:
                drawn[deck.pop()] = None
    rows = np.array(sorted(drawn))
    return ImageSet.unweighted(images=images.images, sha256=images.sha256[rows], y=images.y[rows])


def shuffle_labels(train: ImageSet, validation: ImageSet, *, seed: int) -> tuple[ImageSet, ImageSet, np.ndarray]:
    """Shuffle labels among images: those of an image stay together, and equal images keep equal labels.

    Returns:
        Both with their new labels, and the number of the content of each validation image, int [n].
    """
    # Digests of the images as the network sees them are equal for two files of the same image.
    digests = [
        hashlib.sha256(image.tobytes()).hexdigest()
        for side in (train, validation)
        for start in range(0, len(side.sha256), 64)
        for image in side.images.read(side.sha256[start : start + 64].tolist())
    ]
    _, first, content = np.unique(digests, return_index=True, return_inverse=True)
    labels = np.concatenate([train.y, validation.y])[first]
    y = np.random.default_rng(seed).permutation(labels)[content]
    n = len(train.y)
    return replace(train, y=y[:n]), replace(validation, y=y[n:]), content[n:]


def _untrained_scores(model: Model, images: ImageSet, batch_size: int, seed: int) -> list[np.ndarray]:
    """Return the outputs [n, k] of the first training step for each draw of the output weights; changes the model."""
    output = model.get_layer(OUTPUT)
    below = keras.Model(model.input, output.input)
    starts = range(0, len(images.sha256), batch_size)
    batches = (images.images.read(images.sha256[start : start + batch_size].tolist()) for start in starts)
    hidden = np.concatenate([np.asarray(below(batch[..., np.newaxis], training=True)) for batch in batches])
    scores, config = [], output.kernel_initializer.get_config()
    for draw in range(N_DRAWS):
        # Constant initialisers have no seed.
        seeded = config | {"seed": seed + draw} if "seed" in config else config
        output.kernel.assign(type(output.kernel_initializer).from_config(seeded)(output.kernel.shape))
        scores.append(np.asarray(output(hidden)))
    return scores


class _Memorised(Exception):
    """Stop training, because all images are memorised."""


def _fit(
    subject: Subject,
    model: Model,
    train: ImageSet,
    validation: ImageSet,
    epochs: tuple[int, int],
    checkpoints: Path,
    on_epoch: Callable[[Row], None],
) -> Model:
    """Train both phases to their last epoch, without any regularisation."""
    none: dict[str, Any] = {"schedule": "constant", "weight_decay": 0.0, "head_weight_decay": 0.0, "patience": None}
    fine_tuning = replace(subject.settings.fine_tuning, epochs=epochs[1])
    trained, _ = fit(
        model=model,
        train=train,
        validation=validation,
        # The last epoch is selected, because none is worse than the best one by more than the tolerance.
        settings=replace(subject.settings, **none, tolerance=math.inf, epochs=epochs[0], fine_tuning=fine_tuning),
        exclusive=subject.exclusive,
        augmentation=_NO_AUGMENTATION,
        features=subject.features,
        checkpoints=checkpoints,
        on_epoch=on_epoch,
    )
    return trained


def _finite(value: Any) -> float | None:
    """Return a number for JSON, which has neither NaN nor infinity."""
    return float(value) if math.isfinite(value) else None


CHECKS: dict[str, Callable[..., dict[str, Any]]] = {
    "chance": check_chance,
    "overfitting": check_overfitting,
    "shuffled_labels": check_shuffled_labels,
}
