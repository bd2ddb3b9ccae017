"""The phases of training: the networks to train one after the other, and their inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import keras

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.training.augmentation import build_augmentation
from cxr_pipeline.training.features import BackboneFeatures
from cxr_pipeline.training.image_sets import ImageSet, Inputs, image_inputs
from cxr_pipeline.training.networks.backbones import BACKBONES
from cxr_pipeline.training.networks.build import POOLED, is_frozen
from cxr_pipeline.training.settings import FineTuningSettings, TrainingSettings


@dataclass(frozen=True)
class Phase:
    """A part of training with one optimizer and one schedule, of a network that shares its layers with the model.

    ``views`` is the number of augmented views of each image, besides the image itself, and ``thawed`` are the layers
    that become trainable.
    """

    name: str
    network: keras.Model
    inputs: Inputs
    settings: TrainingSettings | FineTuningSettings
    weight_decay: float
    views: int = 0
    thawed: Sequence[keras.Layer] = ()


def plan_phases(
    model: keras.Model,
    train: ImageSet,
    validation: ImageSet,
    *,
    settings: TrainingSettings,
    augmentation: Mapping[str, Any],
    folder: Path,
) -> list[Phase]:
    """Return the phases of training, and compute the features that they need; see `fit` for the arguments."""
    if not is_frozen(model):
        image = keras.Input(model.input_shape[1:], name="image")
        network = keras.Model(image, model(build_augmentation(augmentation)(image)))
        inputs = image_inputs(train.images, model.input_shape[1:])
        return [Phase("training", network, inputs, settings, settings.weight_decay)]

    tuning, views = settings.fine_tuning, int(augmentation["views"])
    cut, pooled = cut_layer(model, tuning.cut), model.get_layer(POOLED)
    features = BackboneFeatures(
        images=train.images,
        lower=keras.Model(model.input, cut.output),
        upper=keras.Model(cut.output, pooled.output),
        augmentation=augmentation,
        folder=folder,
    )
    shown = train.sha256[train.count > 0].tolist()
    features.prepare([(sha256, 0) for sha256 in validation.sha256.tolist()], at_cut=tuning.epochs > 0)
    features.prepare([(sha256, view) for sha256 in shown for view in range(views + 1)], at_cut=tuning.epochs > 0)

    head, top = keras.Model(pooled.output, model.output), keras.Model(cut.output, model.output)
    inputs = Inputs(features.read_pooled, head.input_shape[1:], "float16")
    frozen = Phase("frozen", head, inputs, settings, settings.head_weight_decay, views)
    if tuning.epochs == 0:
        return [frozen]
    thawed = [layer for layer in top.layers if not isinstance(layer, keras.layers.BatchNormalization)]
    inputs = Inputs(features.read_cut, top.input_shape[1:], "float16")
    return [frozen, Phase("fine_tuning", top, inputs, tuning, settings.weight_decay, views, thawed)]


def shared_layer(model: keras.Model, settings: TrainingSettings) -> str:
    """Return the name of the last layer that is the same in all members of an ensemble, see `combine`."""
    if not is_frozen(model):
        return str(model.layers[0].name)
    return str(cut_layer(model, settings.fine_tuning.cut).name) if settings.fine_tuning.epochs else POOLED


def cut_layer(model: keras.Model, name: str | None) -> keras.Layer:
    """Return the layer at the cut, or at the default of the backbone; raise `UserError` if other paths bypass it."""
    name = name or BACKBONES[model.name].cut
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
