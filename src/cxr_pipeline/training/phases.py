"""The phases in which a model is trained, and what each of them is fed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.training.augmentation import STRENGTHS, build_augmentation
from cxr_pipeline.training.batches import Inputs, batches, epoch_order, image_inputs
from cxr_pipeline.training.epochs import Phase
from cxr_pipeline.training.features import BackboneFeatures, Entry
from cxr_pipeline.training.image_sets import FineTuningSettings, ImageSet, TrainingSettings
from cxr_pipeline.training.networks.backbones import BACKBONES
from cxr_pipeline.training.networks.heads import POOLED
from cxr_pipeline.training.networks.optimizers import build_optimizer

if TYPE_CHECKING:
    from keras import Layer, Model, Variable
    from tensorflow.data import Dataset


@dataclass(frozen=True)
class Plan:
    """What the phases of a training have in common.

    Args:
        train, validation: images.
        settings: of all phases.
        augmentation: strengths and seed of `build_augmentation` by name, and ``views``.
        folder: where feature caches lie.
    """

    train: ImageSet
    validation: ImageSet
    settings: TrainingSettings
    augmentation: Mapping[str, Any]
    folder: Path

    def phases(self, model: Model) -> tuple[list[Phase], list[Variable]]:
        """Plan the training of a model.

        Returns:
            The phases in order, and the variables that any of them changes.

        Raises:
            UserError: the cut is no layer of the backbone.
        """
        if any(layer.weights and not layer.trainable for layer in model.layers):
            return self._pretrained(model)
        return [self._from_scratch(model)], list(model.weights)

    def _from_scratch(self, model: Model) -> Phase:
        """Every layer, on images augmented in the graph."""
        changes = build_augmentation(**{name: self.augmentation[name] for name in (*STRENGTHS, "seed")})
        image = keras.Input(model.input_shape[1:], name="image")
        network = keras.Model(image, model(changes(image)))
        return self._phase(
            "training", network, _image_inputs, stage=self.settings, views=0, weight_decay=self.settings.weight_decay
        )

    def _pretrained(self, model: Model) -> tuple[list[Phase], list[Variable]]:
        """The head on pooled features, then the top of the backbone from activations at the cut."""
        tuning = self.settings.fine_tuning
        cut = _cut_layer(model, tuning.cut or BACKBONES[model.name].cut)
        pooled = model.get_layer(POOLED)
        features = BackboneFeatures(
            images=self.train.images,
            lower=keras.Model(model.input, cut.output),
            upper=keras.Model(cut.output, pooled.output),
            augmentation=self.augmentation,
            folder=self.folder,
        )
        views, tunes = int(self.augmentation["views"]), tuning.epochs > 0
        features.prepare([(sha256, 0) for sha256 in self.validation.sha256.tolist()], at_cut=tunes)
        shown = self.train.sha256[self.train.count > 0].tolist()
        features.prepare([(sha256, view) for sha256 in shown for view in range(views + 1)], at_cut=tunes)
        head, top = keras.Model(pooled.output, model.output), keras.Model(cut.output, model.output)
        feed_head = partial(_feature_inputs, features.read_pooled, head)
        feed_top = partial(_feature_inputs, features.read_cut, top)
        frozen = self._phase(
            "frozen",
            head,
            feed_head,
            stage=self.settings,
            views=views,
            weight_decay=self.settings.head_weight_decay,
        )
        if not tunes:
            return [frozen], list(head.weights)
        fine_tuning = self._phase(
            "fine_tuning", top, feed_top, stage=tuning, views=views, weight_decay=self.settings.weight_decay
        )
        thawed = [layer for layer in top.layers if not isinstance(layer, keras.layers.BatchNormalization)]
        return [frozen, replace(fine_tuning, thawed=thawed)], list(top.weights)

    def _phase(
        self,
        name: str,
        network: Model,
        feed: Callable[[ImageSet], Inputs],
        *,
        stage: TrainingSettings | FineTuningSettings,
        views: int,
        weight_decay: float,
    ) -> Phase:
        count, settings = self.train.count, self.settings
        fed, steps = feed(self.train), -(-int(count.sum()) // stage.batch_size)
        in_order = np.stack([np.arange(len(self.validation.y)), np.zeros(len(self.validation.y), np.int64)], axis=1)

        def train(epoch: int) -> Dataset:
            order = epoch_order(count, views=views, seed=settings.seed, epoch=epoch)
            return batches(fed, order, batch_size=stage.batch_size, targets=(self.train.y, self.train.weight))

        return Phase(
            name=name,
            network=network,
            thawed=[],
            epochs=stage.epochs,
            steps=steps,
            train=train,
            validation=batches(feed(self.validation), in_order, batch_size=stage.batch_size),
            optimizer=lambda: build_optimizer(
                settings.optimizer,
                learning_rate=stage.learning_rate,
                schedule=settings.schedule,
                weight_decay=weight_decay,
                total_steps=stage.epochs * steps,
            ),
        )


def _image_inputs(images: ImageSet) -> Inputs:
    """Feed images as they are stored, whatever the view."""
    return image_inputs(images.images, images.sha256)


def _feature_inputs(read_entries: Callable[[Sequence[Entry]], np.ndarray], network: Model, images: ImageSet) -> Inputs:
    """Feed cached features, of the view that the order asks for."""

    def read(chunk: np.ndarray) -> np.ndarray:
        return read_entries([(str(images.sha256[image]), int(view)) for image, view in chunk])

    return Inputs(read, shape=network.input_shape[1:], dtype="float16")


def _cut_layer(model: Model, name: str) -> Layer:
    """The layer at the cut.

    Raises:
        UserError: the model has no such layer, or it is no place where the whole graph passes.
    """
    names = [layer.name for layer in model.layers]
    below_head = names[: names.index(POOLED)]
    if name not in below_head:
        close = ", ".join(get_close_matches(name, below_head, n=3)) or "null, for the backbone's own"
        raise UserError(
            f"training.fine_tuning.cut: expected a layer of the backbone of {model.name}, found {name!r}; try {close}."
        )
    cut = model.get_layer(name)
    try:
        keras.Model(cut.output, model.output)
    except ValueError as error:
        raise UserError(
            f"training.fine_tuning.cut: {name} is inside a block of {model.name}, so that other paths lead past it; "
            "cut where the whole graph passes, or leave it null for the backbone's own."
        ) from error
    return cut
