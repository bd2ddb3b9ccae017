"""Which new images are compared with a model's own, and what counts as drift."""

from typing import Annotated

from pydantic import Field, model_validator

from cxr_pipeline.framework.config.parameters import Parameters, Seed
from cxr_pipeline.framework.config.sources import Source

Effect = Annotated[float, Field(ge=0)]


class DriftLimits(Parameters):
    """How large the effects of a family may be.

    Args:
        warn: from here on a significant difference is a finding.
        refuse: from here on the images should not be used unseen; null for never.
    """

    warn: Effect
    refuse: Effect | None

    @model_validator(mode="after")
    def _ordered(self) -> "DriftLimits":
        if self.refuse is not None and self.refuse < self.warn:
            raise ValueError(f"refuse must not be below warn, found {self.refuse:g} and {self.warn:g}")
        return self


class DriftFamilies(Parameters):
    """The limits of each family, in its own measure of effect.

    Args:
        pixels: largest distance between distribution functions, 0 to 1.
        features: AUC of telling new images from old ones, 0.5 to 1.
        scores: population stability index.
        prevalence: Cohen's h.
        calibration: difference in probability.
    """

    pixels: DriftLimits
    features: DriftLimits
    scores: DriftLimits
    prevalence: DriftLimits
    calibration: DriftLimits


class Drift(Parameters):
    """Drift of new images.

    Args:
        folder: every image below it is new; neither patients nor labels are known of these images.
        source: the new images as a source, which knows them; instead of ``folder``.
        model: an MLflow model URI; null for the champion, or the newest version where there is none.
        batch_size: images that go through the network at once.
        alpha: chance of even one significant test in a whole check of images without drift.
        min_images: images, of as many patients, that either side of a test needs.
        max_images: most images that are looked at on either side.
        seed: of the draw of one image a patient.
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
