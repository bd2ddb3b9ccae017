"""Parameters of decision rules, evaluation and scoring."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from cxr_pipeline.framework.config.parameters import Fraction, Parameters, Seed


class Fixed(Parameters):
    """A given threshold."""

    rule: Literal["fixed"]
    value: Fraction


class Youden(Parameters):
    """The largest sum of sensitivity and specificity."""

    rule: Literal["youden"]


class TargetSensitivity(Parameters):
    """The largest specificity among the operating points that reach a sensitivity."""

    rule: Literal["target_sensitivity"]
    value: Fraction


class TargetSpecificity(Parameters):
    """The largest sensitivity among the operating points that reach a specificity."""

    rule: Literal["target_specificity"]
    value: Fraction


class FBeta(Parameters):
    """The largest F-beta score."""

    rule: Literal["f_beta"]
    beta: Annotated[float, Field(gt=0)]


class Cost(Parameters):
    """The lowest expected cost of errors."""

    rule: Literal["cost"]
    false_negative: Annotated[float, Field(gt=0)]
    false_positive: Annotated[float, Field(gt=0)]


class Argmax(Parameters):
    """The most probable of exclusive classes."""

    rule: Literal["argmax"]


Policy = Annotated[
    Argmax | Fixed | Youden | TargetSensitivity | TargetSpecificity | FBeta | Cost,
    Field(discriminator="rule"),
]


class Thresholds(Parameters):
    """Calibration and threshold policy, both fitted on validation images.

    Args:
        compared: other policies to report along with the chosen one.
    """

    calibration: Literal["none", "temperature", "platt", "isotonic"]
    policy: Policy
    compared: tuple[Policy, ...] = ()


class Evaluation(Parameters):
    """The bootstrap of all confidence intervals."""

    replicates: Annotated[int, Field(ge=100, le=100_000)]
    confidence: Annotated[float, Field(gt=0, lt=1)]
    seed: Seed


class Subgroups(Parameters):
    """Subgroups of the test images.

    Args:
        ages: first age of each band but the lowest, in years: [18, 65] means 0 to 17, 18 to 64, and 65 and older.
        min_patients: patients that a group must have with a class, and without it, for figures about that class; an image
            whose patient is not known counts as one.
    """

    ages: tuple[Annotated[int, Field(ge=1, le=120)], ...]
    min_patients: Annotated[int, Field(ge=2)]

    @field_validator("ages")
    @classmethod
    def _rising(cls, ages: tuple[int, ...]) -> tuple[int, ...]:
        if list(ages) != sorted(set(ages)):
            raise ValueError(f"ages must be increasing, found {list(ages)}")
        return ages


class Scoring(Parameters):
    """Which images are scored, and by what.

    Args:
        folder: every image below it is scored.
        model: an MLflow model URI; null for the task's ``@champion``, or its newest version where there is none.
        batch_size: images that go through the network at once.
        heatmaps: draw where the model looks, a PNG for each image beside the predictions.
        parquet: write ``predictions.parquet`` beside ``predictions.csv``.
        unlike: what becomes of an image that is unlike those that the model comes from: ``flag``, it is scored and has a
            reason all the same; ``refuse``, it is not scored; ``ignore``, nothing.
        false_alarms: share of images of the same kind that may be called unlike.
        on_drift: what happens where the verdict on the images taken together is ``refuse``: ``warn``, it is logged and
            recorded; ``refuse``, no predictions are written.
    """

    folder: str | None
    model: str | None
    batch_size: Annotated[int, Field(ge=1)]
    heatmaps: bool = False
    parquet: bool = False
    unlike: Literal["flag", "refuse", "ignore"] = "flag"
    false_alarms: Annotated[float, Field(gt=0, lt=1)] = 0.01
    on_drift: Literal["warn", "refuse"] = "warn"
