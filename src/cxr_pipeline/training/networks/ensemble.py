"""Ensembles of networks that were trained on different images, as one Keras graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

MEAN = "mean_probability"
# After the name of each layer of a further member; the layers of the first keep their names.
_SUFFIX = "_of_member_"


def combine(members: Sequence[keras.Model], shared: str) -> keras.Model:
    """Combine networks of one architecture to a model whose output is the mean of their outputs.

    The layers up to ``shared``, through which all paths of the graph pass, must have the same weights in all networks.
    The model has them once, so that they are computed once. A single network is returned unchanged. The networks must
    not be trained further, because the model uses the layers of the first.

    Example:
        >>> from cxr_pipeline.training.networks.build import build_model
        >>> members = [build_model(name="small_cnn", size=32, seed=seed) for seed in range(2)]
        >>> ensemble = combine(members, "image")
        >>> len(members_of(ensemble))
        2
    """
    first = members[0]
    if len(members) == 1:
        return first
    tensor = first.get_layer(shared).output
    outputs = [_copy_top(member, shared, tensor, f"{_SUFFIX}{number}") for number, member in enumerate(members[1:], 2)]
    mean = keras.layers.Average(dtype="float32", name=MEAN)([first.output, *outputs])
    return keras.Model(first.input, mean, name=first.name)


def members_of(model: keras.Model) -> list[keras.Model]:
    """Return the networks of an ensemble, or of another model the only one; they consist of its layers."""
    mean = model.layers[-1]
    outputs = mean.input if mean.name == MEAN else model.outputs
    return [keras.Model(model.inputs[0], output, name=model.name) for output in outputs]


def layer_of(member: keras.Model, name: str) -> keras.Layer:
    """Return the layer that has a name in the first member of an ensemble."""
    return next(layer for layer in member.layers if layer.name.partition(_SUFFIX)[0] == name)


def _copy_top(model: keras.Model, start: str, tensor: keras.KerasTensor, suffix: str) -> keras.KerasTensor:
    """Apply copies of the layers after ``start`` to a tensor, and return the output."""
    top = {layer.name for layer in keras.Model(model.get_layer(start).output, model.output).layers}
    tensors: dict[int, Any] = {id(model.get_layer(start).output): tensor}
    for layer in model.layers:
        if layer.name in top and id(layer.output) not in tensors:
            copy = type(layer).from_config({**layer.get_config(), "name": layer.name + suffix})
            inputs = layer.input
            several = isinstance(inputs, list)
            tensors[id(layer.output)] = copy([tensors[id(each)] for each in inputs] if several else tensors[id(inputs)])
            copy.set_weights(layer.get_weights())
    return tensors[id(model.output)]
