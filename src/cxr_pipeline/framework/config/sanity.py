"""The checks before a long training."""

from typing import Annotated

from pydantic import Field

from cxr_pipeline.framework.config.parameters import Fraction, Parameters, Seed


class Chance(Parameters):
    """The loss of the untrained network is what chance gives.

    Args:
        n_images: training images that it is measured on, balanced over the classes.
        max_ratio: how many times more, or less, than that of chance it may be.
    """

    n_images: Annotated[int, Field(ge=2)]
    max_ratio: Annotated[float, Field(gt=1)]


class Overfitting(Parameters):
    """A few images can be learnt by heart.

    Args:
        n_images: training images that are learnt, balanced over the classes.
        epochs: at most so many.
        max_loss: the loss that must be reached.
        min_auc: the AUC that must be reached, mean over the outputs.
    """

    n_images: Annotated[int, Field(ge=2)]
    epochs: Annotated[int, Field(ge=1)]
    max_loss: Annotated[float, Field(gt=0)]
    min_auc: Fraction


class ShuffledLabels(Parameters):
    """After training on shuffled labels, validation images are told apart no better than by guessing.

    Args:
        epochs: at most so many.
        false_alarms: how often a sound pipeline may fail; the bound of the AUC comes from it.
        permutations: of the labels, from which that bound is taken.
    """

    epochs: Annotated[int, Field(ge=1)]
    false_alarms: Annotated[float, Field(gt=0, lt=1)]
    permutations: Annotated[int, Field(ge=100, le=1_000_000)]


class Sanity(Parameters):
    """The three checks.

    Args:
        seed: chooses the images, draws the output weights, deals the labels.
    """

    chance: Chance
    overfitting: Overfitting
    shuffled_labels: ShuffledLabels
    seed: Seed
