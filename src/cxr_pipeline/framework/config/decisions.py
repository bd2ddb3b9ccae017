"""Parameters of decision rules, evaluation and scoring."""

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
    """The bootstrap of all confidence intervals."""

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


class Scoring(Parameters):
    """Scoring of new images.

    Args:
        folder: folder of the images, with its subfolders.
        model: an MLflow model URI; null for the ``@champion`` of the task, or its newest version if there is none.
        batch_size: images per batch.
        heatmaps: write a heat map of each scored image, as PNG.
        parquet: write ``predictions.parquet`` in addition to ``predictions.csv``.
        out_of_distribution: ``flag``: out-of-distribution images are scored, with a reason; ``refuse``: they are not
            scored; ``ignore``: no screening.
        false_alarms: fraction of images of the training distribution that may be flagged.
        on_drift: if the drift check of the folder results in ``refuse``: ``warn`` logs and records it; ``refuse``
            writes no predictions.
    """

    folder: str | None
    model: str | None
    batch_size: Annotated[int, Field(ge=1)]
    heatmaps: bool = False
    parquet: bool = False
    out_of_distribution: Literal["flag", "refuse", "ignore"] = "flag"
    false_alarms: Annotated[float, Field(gt=0, lt=1)] = 0.01
    on_drift: Literal["warn", "refuse"] = "warn"
