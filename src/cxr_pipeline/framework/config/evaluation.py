"""Parameters of decision rules and evaluation."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from cxr_pipeline.evaluation.decision_rule import ARGMAX
from cxr_pipeline.evaluation.threshold_policies import POLICIES
from cxr_pipeline.framework.config.parameters import Parameters, Seed, variants


class PolicyParameters(Parameters):
    """A threshold policy: the values of its class, or ``argmax`` for the most probable of exclusive classes."""

    rule: str


# The rule argmax has no parameters.
Policy = Annotated[PolicyParameters, variants(PolicyParameters, "rule", {ARGMAX: object, **POLICIES})]


class Thresholds(Parameters):
    """Calibration and threshold policy, fitted on validation images; ``compared`` are other policies to report."""

    calibration: Literal["none", "temperature", "platt", "isotonic"]
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
        min_patients: patients that a group must have both with and without a class for metrics of that class; an image
            without a known patient counts as one patient.
    """

    ages: tuple[Annotated[int, Field(ge=1, le=120)], ...]
    min_patients: Annotated[int, Field(ge=2)]

    @field_validator("ages")
    @classmethod
    def _rising(cls, ages: tuple[int, ...]) -> tuple[int, ...]:
        if list(ages) != sorted(set(ages)):
            raise ValueError(f"ages must be increasing, found {list(ages)}")
        return ages
