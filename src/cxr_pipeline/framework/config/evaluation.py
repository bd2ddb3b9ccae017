"""Parameters of decision rules and evaluation."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from cxr_pipeline.framework.config.parameters import Fraction, Parameters, Seed


class PlainPolicy(Parameters):
    """A threshold policy without a value; ``argmax`` predicts the most probable of exclusive classes."""

    rule: Literal["youden", "argmax"]


class ValuePolicy(Parameters):
    """A fixed threshold, or a target to reach; see `choose_threshold`."""

    rule: Literal["fixed", "target_sensitivity", "target_specificity"]
    value: Fraction


Policy = Annotated[PlainPolicy | ValuePolicy, Field(discriminator="rule")]


class Thresholds(Parameters):
    """Calibration and threshold policy, fitted on validation images; ``compared`` are other policies to report."""

    calibration: Literal["none", "temperature", "platt"]
    policy: Policy
    compared: tuple[Policy, ...] = ()


class Evaluation(Parameters):
    """Confidence intervals; those of differences and of the calibration error come from a bootstrap."""

    replicates: Annotated[int, Field(ge=100, le=100_000)]
    confidence: Annotated[float, Field(gt=0, lt=1)]
    seed: Seed


class Subgroups(Parameters):
    """Subgroups of the test images.

    Args:
        ages: first age of each band but the lowest, in years: [18, 65] means 0 to 17, 18 to 64, and 65 and older.
        min_patients: patients that a group must have both with and without a class for metrics of that class.
    """

    ages: tuple[Annotated[int, Field(ge=1, le=120)], ...]
    min_patients: Annotated[int, Field(ge=2)]

    @field_validator("ages")
    @classmethod
    def _rising(cls, ages: tuple[int, ...]) -> tuple[int, ...]:
        if list(ages) != sorted(set(ages)):
            raise ValueError(f"ages must be increasing, found {list(ages)}")
        return ages
