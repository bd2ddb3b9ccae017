"""The phases in which a model is trained, and the inputs of each phase."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.training.augmentation import build_augmentation
from cxr_pipeline.training.batches import Inputs, batches, epoch_order, image_inputs
from cxr_pipeline.training.epochs import Phase
from cxr_pipeline.training.features import BackboneFeatures, Entry
from cxr_pipeline.training.image_sets import ImageSet
from cxr_pipeline.training.networks.backbones import BACKBONES
from cxr_pipeline.training.networks.build import is_frozen
from cxr_pipeline.training.networks.heads import POOLED
from cxr_pipeline.training.networks.optimizers import build_optimizer
from cxr_pipeline.training.settings import FineTuningSettings, TrainingSettings


@dataclass(frozen=True)
class TrainingPlan:
    """Plan the phases of a training.

    Args:
        train, validation: the images.
        settings: settings of all phases.
        augmentation: parameters of `build_augmentation`, and ``views``.
        features: folder of the feature caches.
    """

    train: ImageSet
    validation: ImageSet
    settings: TrainingSettings
    augmentation: Mapping[str, Any]
    features: Path

    def phases(self, model: keras.Model) -> list[Phase]:
        """Return the phases in order, with the features that they need computed.

        Raises:
            UserError: the cut is not a layer of the backbone.
        """
        return self._pretrained(model) if is_frozen(model) else [self._from_scratch(model)]

    def _from_scratch(self, model: keras.Model) -> Phase:
        """Train every layer on images that are augmented in the graph."""
        image = keras.Input(model.input_shape[1:], name="image")
        network = keras.Model(image, model(build_augmentation(self.augmentation)(image)))
        settings = self.settings
        return self._phase("training", network, _image_inputs, settings, views=0, weight_decay=settings.weight_decay)

    def _pretrained(self, model: keras.Model) -> list[Phase]:
        """Train the head on pooled features, then the top of the backbone on activations at the cut."""
        settings, tuning, views = self.settings, self.settings.fine_tuning, int(self.augmentation["views"])
        cut = _cut_layer(model, tuning.cut or BACKBONES[model.name].cut)
        pooled = model.get_layer(POOLED)
        features = BackboneFeatures(
            images=self.train.images,
            lower=keras.Model(model.input, cut.output),
            upper=keras.Model(cut.output, pooled.output),
            augmentation=self.augmentation,
            folder=self.features,
        )
        shown = self.train.sha256[self.train.count > 0].tolist()
        features.prepare([(sha256, 0) for sha256 in self.validation.sha256.tolist()], at_cut=tuning.epochs > 0)
        features.prepare([(sha256, view) for sha256 in shown for view in range(views + 1)], at_cut=tuning.epochs > 0)

        head = keras.Model(pooled.output, model.output)
        inputs = _feature_inputs(features.read_pooled, head)
        frozen = self._phase("frozen", head, inputs, settings, views=views, weight_decay=settings.head_weight_decay)
        if tuning.epochs == 0:
            return [frozen]
        top = keras.Model(cut.output, model.output)
        inputs = _feature_inputs(features.read_cut, top)
        fine_tuning = self._phase("fine_tuning", top, inputs, tuning, views=views, weight_decay=settings.weight_decay)
        thawed = [layer for layer in top.layers if not isinstance(layer, keras.layers.BatchNormalization)]
        return [frozen, replace(fine_tuning, thawed=thawed)]

    def _phase(
        self,
        name: str,
        network: keras.Model,
        inputs: Callable[[ImageSet], Inputs],
        settings: TrainingSettings | FineTuningSettings,
        *,
        views: int,
        weight_decay: float,
    ) -> Phase:
        count, seed = self.train.count, self.settings.seed
        train_inputs, steps = inputs(self.train), -(-int(count.sum()) // settings.batch_size)
        in_order = np.stack([np.arange(len(self.validation.y)), np.zeros(len(self.validation.y), np.int64)], axis=1)

        def train(epoch: int) -> tf.data.Dataset:
            order = epoch_order(count, views=views, seed=seed, epoch=epoch)
            targets = (self.train.y, self.train.weight)
            return batches(train_inputs, order, batch_size=settings.batch_size, targets=targets)

        return Phase(
            name=name,
            network=network,
            thawed=[],
            epochs=settings.epochs,
            steps=steps,
            train=train,
            validation=batches(inputs(self.validation), in_order, batch_size=settings.batch_size),
            optimizer=lambda: build_optimizer(
                self.settings.optimizer,
                learning_rate=settings.learning_rate,
                schedule=self.settings.schedule,
                weight_decay=weight_decay,
                total_steps=settings.epochs * steps,
            ),
        )


def _image_inputs(images: ImageSet) -> Inputs:
    """Read images as they are stored, for any view."""
    return image_inputs(images.images, images.sha256)


def _feature_inputs(
    read_entries: Callable[[Sequence[Entry]], np.ndarray], network: keras.Model
) -> Callable[[ImageSet], Inputs]:
    """Read cached features of an image and a view."""

    def inputs(images: ImageSet) -> Inputs:
        def read(chunk: np.ndarray) -> np.ndarray:
            return read_entries([(str(images.sha256[image]), int(view)) for image, view in chunk])

        return Inputs(read, shape=network.input_shape[1:], dtype="float16")

    return inputs


def _cut_layer(model: keras.Model, name: str) -> keras.Layer:
    """Return the layer at the cut.

    Raises:
        UserError: the backbone has no such layer, or other paths of its graph bypass the layer.
    """
    names = [layer.name for layer in model.layers]
    backbone = names[: names.index(POOLED)]
    if name not in backbone:
        close = ", ".join(get_close_matches(name, backbone, n=3)) or "null, for the default of the backbone"
        raise UserError(
            f"training.fine_tuning.cut: expected a layer of the backbone of {model.name}, found {name!r}. Try {close}."
        )
    cut = model.get_layer(name)
    try:
        keras.Model(cut.output, model.output)
    except ValueError as error:
        raise UserError(
            f"training.fine_tuning.cut: {name} is inside a block of {model.name}, so that other paths bypass it. "
            "Cut between blocks, or leave it null for the default of the backbone."
        ) from error
    return cut
