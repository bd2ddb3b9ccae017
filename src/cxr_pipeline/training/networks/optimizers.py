"""Optimizers and their learning-rate schedules."""

from __future__ import annotations

import keras

UNDECAYED = ("bias", "gamma", "beta")


def build_optimizer(
    name: str, *, learning_rate: float, schedule: str, weight_decay: float, total_steps: int
) -> keras.optimizers.Optimizer:
    """Build an optimizer with decoupled weight decay, except for biases and batch normalisation.

    See Loshchilov and Hutter, "SGDR", arXiv:1608.03983, and "Decoupled Weight Decay", arXiv:1711.05101.

    The names are ``adam``, ``adamw``, ``adamax``, ``sgd`` (momentum 0.9) and ``rmsprop``; the schedules ``constant``
    and ``cosine``, from the learning rate to zero over ``total_steps``. ``weight_decay`` is the fraction of a weight,
    times the learning rate, that each step subtracts.
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
