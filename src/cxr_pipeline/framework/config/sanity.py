"""Parameters of the sanity checks."""

from typing import Annotated

from pydantic import Field

from cxr_pipeline.framework.config.parameters import Fraction, Parameters, Seed


class Chance(Parameters):
    """The loss of the untrained network must be that of chance.

    Args:
        n_images: number of training images, balanced over the classes.
        max_ratio: largest ratio between the loss and that of chance, in either direction.
    """

    n_images: Annotated[int, Field(ge=2)]
    max_ratio: Annotated[float, Field(gt=1)]


class Overfitting(Parameters):
    """The network must be able to memorise a few images.

    Args:
        n_images: number of training images, balanced over the classes.
        epochs: largest number of epochs.
        max_loss: loss to reach.
        min_auc: AUC to reach, mean over the outputs.
    """

    n_images: Annotated[int, Field(ge=2)]
    epochs: Annotated[int, Field(ge=1)]
    max_loss: Annotated[float, Field(gt=0)]
    min_auc: Fraction


class ShuffledLabels(Parameters):
    """A network trained on shuffled labels must not predict those of validation images better than chance.

    Args:
        epochs: number of epochs.
        false_alarms: probability that a correct pipeline fails the check; it determines the bound of the AUC.
        permutations: number of permutations of the labels that the bound is computed from.
    """

    epochs: Annotated[int, Field(ge=1)]
    false_alarms: Annotated[float, Field(gt=0, lt=1)]
    permutations: Annotated[int, Field(ge=100, le=1_000_000)]


class Sanity(Parameters):
    """The three checks.

    Args:
        seed: seed of the images, the output weights and the labels.
    """

    chance: Chance
    overfitting: Overfitting
    shuffled_labels: ShuffledLabels
    seed: Seed
