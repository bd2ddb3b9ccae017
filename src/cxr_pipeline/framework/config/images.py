"""Parameters of preparing, splitting, resampling and augmenting images."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from cxr_pipeline.data.images.morphology import OPERATIONS
from cxr_pipeline.framework.config.parameters import Fraction, Parameters, Seed, variants


class Resolution(Parameters):
    """Conversion of any image to one square size and one grey channel.

    Args:
        size: side of the prepared image in pixels.
        mode: ``fit`` keeps the aspect ratio and pads with black, ``stretch`` does not.
        max_megapixels: a larger image is refused before it is decoded.
        workers: number of decoding processes; null for one per core.
    """

    size: Annotated[int, Field(ge=16, le=2048)]
    mode: Literal["fit", "stretch"]
    max_megapixels: Annotated[float, Field(gt=0)]
    workers: Annotated[int, Field(ge=1)] | None = None


class MorphologyStep(Parameters):
    """A function of ``data.images.morphology`` and its arguments."""

    operation: str


Step = Annotated[MorphologyStep, variants(MorphologyStep, "operation", OPERATIONS)]


class Morphology(Parameters):
    """Operations applied in order to every prepared image."""

    steps: tuple[Step, ...]


class Splitting(Parameters):
    """Shares of the patients in each split, and the seed of the assignment."""

    train: Fraction
    validation: Fraction
    test: Fraction
    seed: Seed
    ignore_given_split: bool = False

    @model_validator(mode="after")
    def _sums_to_one(self) -> "Splitting":
        total = self.train + self.validation + self.test
        if abs(total - 1) > 1e-6 or min(self.train, self.validation, self.test) <= 0:
            raise ValueError(
                "train, validation and test must each be above 0 and sum to 1, "
                f"found {self.train} + {self.validation} + {self.test} = {total:g}"
            )
        return self


class Resampling(Parameters):
    """Sampling plan of the training images.

    Args:
        plan: ``none``, or repeat (``oversample``) or leave out (``undersample``) images until classes are equally
            frequent.
        class_weights: weight images so that all classes have the same total weight.
        max_repeat: maximum number of times that an image is shown in an epoch; null for no limit.
        within_sources: balance the classes within each source.
    """

    plan: Literal["none", "oversample", "undersample"]
    class_weights: bool
    max_repeat: Annotated[int, Field(ge=1)] | None = None
    within_sources: bool = False
    seed: Seed


class Augmentation(Parameters):
    """Random changes of a training image; 0 disables a change.

    Args:
        rotation: largest angle in degrees.
        translation: largest shift as a fraction of the side.
        zoom: largest change of scale as a fraction.
        brightness: largest change as a fraction of the grey range.
        contrast: largest change as a fraction of the contrast.
        noise: standard deviation as a fraction of the grey range.
        flip: mirror left and right; off by default, because the heart is on the left.
        views: number of augmented views of each training image for which features of a frozen backbone are cached.
    """

    rotation: Annotated[float, Field(ge=0, le=180)]
    translation: Annotated[float, Field(ge=0, lt=1)]
    zoom: Annotated[float, Field(ge=0, lt=1)]
    brightness: Fraction
    contrast: Fraction
    noise: Fraction
    flip: bool
    views: Annotated[int, Field(ge=0, le=100)]
    seed: Seed
