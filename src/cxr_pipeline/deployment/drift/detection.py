"""Detect drift: compare the features of new images with a reference profile."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr_pipeline.deployment.drift.image_features import STATISTICS, ImageFeatures
from cxr_pipeline.deployment.drift.reference_profile import ReferenceProfile
from cxr_pipeline.deployment.drift.two_sample_tests import (
    compare_calibration,
    compare_features,
    compare_prevalence,
    compare_scores,
    compare_values,
)
from cxr_pipeline.evaluation.paired_bootstrap import holm

Limits = Mapping[str, Mapping[str, float | None]]
Floats = NDArray[np.float64]
Values = NDArray[np.floating]

# By severity; "unknown" ranks below "none", so that one family that could be tested decides.
VERDICTS = ("unknown", "none", "warn", "refuse")
FAMILIES = ("pixels", "features", "scores", "prevalence", "calibration")
# Calibration needs a mean over images of either class.
MIN_IMAGES_PER_CLASS = 10


def detect_drift(
    profile: ReferenceProfile,
    new: ImageFeatures,
    *,
    alpha: float,
    min_images: int,
    limits: Limits,
    seed: int,
) -> dict[str, Any]:
    """Compare new images with a reference profile.

    A test reports drift if its p-value is below ``alpha`` after Holm's correction for all tests of the check, and its
    effect reaches the limit of its family. With thousands of images, an irrelevant difference can be significant; with
    a handful of images, a large difference can occur by chance. Images with values that are not finite are skipped and
    counted. The profile is reduced to the sources of the new images, see `ReferenceProfile.match_sources`. Equal
    arguments give equal reports.

    ``new`` has one image per patient, and each sample of a test at least ``min_images``. ``limits`` has, for each of
    ``FAMILIES``, the effects at which drift is ``warn`` and ``refuse`` (None for never). ``seed`` decides the reduction
    and the halves of the domain classifier.

    Returns:
        JSON types: ``verdict``, the worst of all families, ``unknown`` if no family could be tested; ``sentence``, the
        result in words; ``n_new``, ``alpha`` and ``limits``; ``families`` in the order of ``FAMILIES``, each with
        ``name``, ``verdict``, ``notes`` on skipped images and tests, and ``tests``: the results of `two_sample_tests`,
        with ``p_holm`` (the corrected p-value) and ``verdict``.
    """
    profile = profile.match_sources(new.source, min_images=min_images, seed=seed)
    families = [_Family(profile, new, min_images) for _ in FAMILIES]
    pixels, features, scores, prevalence, calibration = families
    pixels.test_pixels()
    features.test(
        partial(compare_features, seed=seed), "all features", profile.held_out.features, profile.project(new.features)
    )
    for column, output in enumerate(profile.outputs):
        scores.test(compare_scores, output, profile.held_out.probability[:, column], new.probability[:, column])
        prevalence.test_prevalence(output, column)
        calibration.test_calibration(output, column)
    corrected = iter(holm([result["p_value"] for family in families for result in family.results]))
    reports: list[dict[str, Any]] = []
    for name, family in zip(FAMILIES, families, strict=True):
        tests = [{**result, "p_holm": next(corrected)} for result in family.results]
        for test in tests:
            test["verdict"] = _verdict(test["effect"], test["p_holm"], limits[name], alpha)
        worst = _worst([test["verdict"] for test in tests])
        reports.append({"name": name, "verdict": worst, "notes": list(dict.fromkeys(family.notes)), "tests": tests})
    return {
        "verdict": _worst([report["verdict"] for report in reports]),
        "sentence": _sentence(reports, len(new)),
        "n_new": len(new),
        "alpha": alpha,
        "limits": {name: dict(limits[name]) for name in FAMILIES},
        "families": reports,
    }


class _Family:
    """Run the tests of one family and record why tests are skipped."""

    def __init__(self, profile: ReferenceProfile, new: ImageFeatures, min_images: int) -> None:
        self.profile, self.new, self.min_images = profile, new, min_images
        self.results: list[dict[str, Any]] = []
        self.notes: list[str] = []

    def test(self, compare: Callable[..., dict[str, Any]], name: str, reference: Values, new: Values) -> None:
        """Compare the finite rows of two samples."""
        finite = []
        for side, values in (("reference", reference), ("new", new)):
            usable = np.isfinite(values).all(axis=tuple(range(1, values.ndim)))
            if not usable.all():
                self.notes.append(f"{name}: {(~usable).sum():,} {side} images without a finite value are left out.")
            finite.append(values[usable].astype(np.float64))
        if self._enough(name, *map(len, finite)):
            self.results.append(compare(name, *finite))

    def test_pixels(self) -> None:
        if self._enough("pixels", len(self.profile.training), len(self.new)):
            reference, new = self.profile.training.statistics, self.new.statistics
            for column, name in enumerate(STATISTICS):
                self.test(compare_values, name, reference[:, column], new[:, column])

    def test_prevalence(self, output: str, column: int) -> None:
        sides = [images.y_true[:, column] for images in (self.profile.training, self.new)]
        labels = [side[~np.isnan(side)] for side in sides]
        if self._labelled() and self._enough(output, *map(len, labels)):
            self.results.append(compare_prevalence(output, *labels))

    def test_calibration(self, output: str, column: int) -> None:
        sides: list[tuple[Floats, Floats]] = []
        for images in (self.profile.held_out, self.new):
            y_true, probability = images.y_true[:, column], images.probability[:, column]
            known = ~np.isnan(y_true) & np.isfinite(probability)
            sides.append((y_true[known], probability[known]))
        if not (self._labelled() and self._enough(output, *(len(y_true) for y_true, _ in sides))):
            return
        rarest = min(int(min(y_true.sum(), (1 - y_true).sum())) for y_true, _ in sides)
        if rarest < MIN_IMAGES_PER_CLASS:
            self.notes.append(f"{output}: {rarest:,} images of the rarer class; {MIN_IMAGES_PER_CLASS} are needed.")
        else:
            self.results.extend(compare_calibration(output, *sides))

    def _labelled(self) -> bool:
        labelled = not np.isnan(self.new.y_true).all()
        if not labelled:
            self.notes.append("The new images have no labels.")
        return labelled

    def _enough(self, name: str, n_reference: int, n_new: int) -> bool:
        enough = min(n_reference, n_new) >= self.min_images
        if not enough:
            self.notes.append(
                f"{name}: {n_reference:,} reference images and {n_new:,} new images; {self.min_images:,} of each, one "
                "per patient, are needed."
            )
        return enough


def _sentence(families: list[dict[str, Any]], n_new: int) -> str:
    if not n_new:
        return "Drift cannot be tested: no image could be read."
    drift = []
    for family in families:
        if family["verdict"] in ("warn", "refuse"):
            worst = max(family["tests"], key=lambda test: (VERDICTS.index(test["verdict"]), test["effect"]))
            drift.append(f"{family['name']} ({worst['name']}, {worst['effect_name']} {worst['effect']:.2f})")
    if drift:
        return f"Drift in {', '.join(drift)}."
    tested = ", ".join(family["name"] for family in families if family["tests"])
    if not tested:
        return f"Drift cannot be tested with {n_new:,} new images, one per patient."
    return f"No drift was found in {tested}."


def _worst(verdicts: list[str]) -> str:
    return max(verdicts, key=VERDICTS.index, default="unknown")


def _verdict(effect: float, p_holm: float, limits: Mapping[str, float | None], alpha: float) -> str:
    warn, refuse = limits["warn"], limits["refuse"]
    if p_holm >= alpha or warn is None or effect < warn:
        return "none"
    return "refuse" if refuse is not None and effect >= refuse else "warn"
