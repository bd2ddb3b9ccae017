"""Parameters of scoring, drift detection and retraining."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from cxr_pipeline.framework.config.data import Source
from cxr_pipeline.framework.config.parameters import Fraction, Parameters, Seed, without_nulls

Effect = Annotated[float, Field(ge=0)]
# Metrics for which larger is better.
Floored = Literal[
    "auc", "average_precision", "accuracy", "balanced_accuracy", "sensitivity", "specificity", "precision", "f1"
]


class Scoring(Parameters):
    """Scoring of new images.

    Args:
        folder: folder of the images, with its subfolders.
        model: an MLflow model URI; null for the ``@champion`` of the task, or its newest version if there is none.
        batch_size (images): images that the network scores at a time.
        heatmaps: write a heat map of each scored image, as PNG.
        parquet: write ``predictions.parquet`` in addition to ``predictions.csv``.
        out_of_distribution: what to do with images unlike those of the training sources, see `Screening`.
        false_alarms: fraction of in-distribution images that may be flagged, see `OutlierDetector`.
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


class DriftLimits(Parameters):
    """Effect sizes from which a significant difference counts.

    Args:
        warn (effect size): from here, the verdict is ``warn``.
        refuse (effect size): from here, the verdict is ``refuse``; null for never.
    """

    warn: Effect
    refuse: Effect | None

    @model_validator(mode="after")
    def _ordered(self) -> "DriftLimits":
        if self.refuse is not None and self.refuse < self.warn:
            raise ValueError(f"refuse must not be below warn, found {self.refuse:g} and {self.warn:g}")
        return self


class DriftFamilies(Parameters):
    """Limits of each family of tests, in its own measure of effect size; see ``deployment.drift.two_sample_tests``.

    Args:
        pixels: statistics of pixels: largest distance between the two distribution functions.
        features: features of the network: AUC of a classifier of new against old images.
        scores: probabilities: population stability index.
        prevalence: share of a class: Cohen's h.
        calibration: calibration: difference in probability.
    """

    pixels: DriftLimits
    features: DriftLimits
    scores: DriftLimits
    prevalence: DriftLimits
    calibration: DriftLimits


class Drift(Parameters):
    """Drift detection; see `detect_drift`.

    Args:
        folder: new images; their patients and labels are unknown.
        source: new images with patients and labels, as a source, instead of ``folder``.
        model: MLflow model URI; null for the champion, or the newest version without a champion.
        batch_size (images): images that the network sees at a time.
        alpha: probability of at least one significant test if there is no drift.
        min_images, max_images (images): number of images in each sample of a test, one per patient.
        limits: effect sizes from which a significant difference counts.
        seed: seed of the samples.
    """

    folder: str | None
    source: Source | None
    model: str | None
    batch_size: Annotated[int, Field(ge=1)]
    alpha: Annotated[float, Field(gt=0, lt=1)]
    min_images: Annotated[int, Field(ge=10)]
    max_images: Annotated[int, Field(ge=10, le=10_000)]
    limits: DriftFamilies
    seed: Seed

    @model_validator(mode="after")
    def _one_place(self) -> "Drift":
        if self.folder is not None and self.source is not None:
            raise ValueError("expected either folder or source, found both")
        return self


class Retraining(Parameters):
    """Validation of changed data, and the promotion rule; see `cxr_pipeline.deployment.promotion.decide`.

    Args:
        floors: smallest metrics of a version that is promoted; null disables a floor.
        sensitivity_margin: the lower end of the difference in sensitivity must be above minus this.
        auc_margin: the same for the AUC.
        improvement: ``better`` also demands that the lower end of the AUC difference is above 0.
        max_relabelled_fraction: largest fraction of the champion's images that may have new labels; the run stops above
            it.
        on_drift: action if the drift verdict on new images is ``refuse``: ``refuse`` stops the run; ``warn`` trains a
            challenger and records the verdict.
        force: train and decide even if the data have not changed, for example after a change of this rule.
    """

    floors: Annotated[dict[Floored, Fraction], BeforeValidator(without_nulls)]
    sensitivity_margin: Fraction
    auc_margin: Fraction
    improvement: Literal["better", "better_or_newer"]
    max_relabelled_fraction: Fraction
    on_drift: Literal["refuse", "warn"] = "refuse"
    force: bool

    @property
    def rule(self) -> dict[str, Any]:
        """Arguments of `cxr_pipeline.deployment.promotion.decide`."""
        return self.model_dump(include={"floors", "sensitivity_margin", "auc_margin", "improvement"})
