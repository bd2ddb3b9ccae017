"""Optimizers and their learning-rate schedules."""

from __future__ import annotations

import keras

UNDECAYED = ("bias", "gamma", "beta")


def build_optimizer(
    name: str, *, learning_rate: float, schedule: str, weight_decay: float, total_steps: int
) -> keras.optimizers.Optimizer:
    """Build an optimizer with decoupled weight decay, except for biases and batch normalisation.

    See Loshchilov and Hutter, "SGDR", arXiv:1608.03983, and "Decoupled Weight Decay", arXiv:1711.05101.

    Args:
        name: ``adam``, ``adamw``, ``adamax``, ``sgd`` (momentum 0.9) or ``rmsprop``.
        learning_rate: learning rate of the first step.
        schedule: ``constant``, or ``cosine`` from the learning rate to zero over ``total_steps``.
        weight_decay: fraction of a weight, times the learning rate, that each step subtracts.
        total_steps: number of steps of the phase.
    """
    classes = {
        "adam": keras.optimizers.Adam,
        "adamw": keras.optimizers.AdamW,
        "adamax": keras.optimizers.Adamax,
        "sgd": keras.optimizers.SGD,
        "rmsprop": keras.optimizers.RMSprop,
    }
    rate = keras.optimizers.schedules.CosineDecay(learning_rate, total_steps) if schedule == "cosine" else learning_rate
    momentum = {"momentum": 0.9} if name == "sgd" else {}
    optimizer = classes[name](learning_rate=rate, weight_decay=weight_decay, **momentum)
    optimizer.exclude_from_weight_decay(var_names=list(UNDECAYED))
    return optimizer
