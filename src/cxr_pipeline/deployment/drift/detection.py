"""From a profile and new images to a verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from cxr_pipeline.deployment.drift.image_features import Observed
from cxr_pipeline.deployment.drift.pixel_statistics import STATISTICS
from cxr_pipeline.deployment.drift.profile import Profile
from cxr_pipeline.deployment.drift.two_sample_tests import (
    Comparison,
    compare_calibration,
    compare_features,
    compare_scores,
    compare_shares,
    compare_values,
)
from cxr_pipeline.evaluation.paired_bootstrap import holm

Verdict = Literal["none", "warn", "refuse", "unknown"]
Floats = NDArray[np.float64]
Values = NDArray[np.floating]

# "unknown" is no finding, so that anything that was found goes before it.
SEVERITY: dict[str, int] = {"unknown": 0, "none": 1, "warn": 2, "refuse": 3}
FAMILIES = ("pixels", "features", "scores", "prevalence", "calibration")
# A mean over fewer images of either class is no basis for a test.
FEWEST_OF_A_CLASS = 10


@dataclass(frozen=True)
class Limits:
    """How large the effects of a family may be.

    Args:
        warn: from here on a significant difference is a finding.
        refuse: from here on the images should not be used before someone has looked at them; None for never.
    """

    warn: float
    refuse: float | None


@dataclass(frozen=True)
class DriftSettings:
    """What counts as drift.

    Args:
        alpha: chance of even one false finding in a whole check, before the effect is looked at.
        min_images: images, of as many patients, that either side of a test needs.
        limits: of each of ``FAMILIES``.
        seed: of the halves of the domain classifier.
    """

    alpha: float
    min_images: int
    limits: Mapping[str, Limits]
    seed: int

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Take them from the ``drift`` parameters, as nested mappings; what else is in these is passed over."""
        limits = {name: Limits(**values["limits"][name]) for name in FAMILIES}
        return cls(values["alpha"], values["min_images"], limits, values["seed"])


@dataclass(frozen=True)
class Finding:
    """A comparison and what it means.

    Args:
        comparison: the test.
        p_holm: its p-value, corrected for all tests of the check.
        verdict: ``none``, ``warn`` or ``refuse``.
    """

    comparison: Comparison
    p_holm: float
    verdict: Verdict


@dataclass(frozen=True)
class FamilyVerdict:
    """What was found in one respect.

    Args:
        name: one of ``FAMILIES``.
        verdict: that of its worst finding; ``unknown`` where nothing could be tested.
        findings: one for each test.
        notes: why something was not tested.
    """

    name: str
    verdict: Verdict
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class DriftReport:
    """What a check found.

    Args:
        verdict: the worst of all families; ``unknown`` where no family could be tested.
        families: in the order of ``FAMILIES``.
        n_new: new images, of as many patients.
        alpha: see `DriftSettings`.
        limits: see `DriftSettings`.
    """

    verdict: Verdict
    families: tuple[FamilyVerdict, ...]
    n_new: int
    alpha: float
    limits: Mapping[str, Limits]

    @property
    def sentence(self) -> str:
        """What was found, in a line."""
        if not self.n_new:
            return "Whether there is drift cannot be told: no image could be looked at."
        if self.verdict == "unknown":
            return f"Whether there is drift cannot be told from {self.n_new:,} new images of as many patients."
        found = [
            f"{family.name} ({finding.comparison.name}, {finding.comparison.effect_name} "
            f"{finding.comparison.effect:.2f})"
            for family in self.families
            if SEVERITY[family.verdict] >= SEVERITY["warn"]
            for finding in [max(family.findings, key=lambda each: (SEVERITY[each.verdict], each.comparison.effect))]
        ]
        tested = ", ".join(family.name for family in self.families if family.findings)
        return f"Drift in {', '.join(found)}." if found else f"No drift was found in {tested}."

    def to_dict(self) -> dict[str, Any]:
        """JSON types: ``verdict``, ``sentence``, ``n_new``, ``alpha``, ``limits``, and ``families`` with ``tests``."""
        return {
            "verdict": self.verdict,
            "sentence": self.sentence,
            "n_new": self.n_new,
            "alpha": self.alpha,
            "limits": {name: asdict(limits) for name, limits in self.limits.items()},
            "families": [
                {
                    "name": family.name,
                    "verdict": family.verdict,
                    "notes": list(family.notes),
                    "tests": [
                        {**asdict(found.comparison), "p_holm": found.p_holm, "verdict": found.verdict}
                        for found in family.findings
                    ],
                }
                for family in self.families
            ],
        }


def detect_drift(profile: Profile, new: Observed, settings: DriftSettings) -> DriftReport:
    """Compare new images with the profile of a model's own.

    A finding needs both: a p-value below ``alpha`` after Holm's correction for all tests of the check, and an effect
    that reaches the family's limit. Without the second thousands of images make a difference significant that matters
    to nobody; without the first a handful of images make one large by chance. The sources have the same shares on both
    sides, see `Profile.like`. Values that are not finite are left out and counted. Equal arguments give equal reports.

    Args:
        profile: from `reference_profile`.
        new: new images, one a patient.
        settings: what counts as drift.

    Raises:
        ValueError: the new images are of a model with other outputs.
    """
    if new.probability.shape[1] != len(profile.outputs):
        raise ValueError(f"Expected {len(profile.outputs)} outputs. Received: {new.probability.shape[1]}")
    profile = profile.like(new.source, at_least=settings.min_images, seed=settings.seed)
    compare = {
        "pixels": _pixels,
        "features": _features,
        "scores": _scores,
        "prevalence": _prevalence,
        "calibration": _calibration,
    }
    asked = {name: _Asked(settings) for name in FAMILIES}
    for name, of_family in asked.items():
        compare[name](profile, new, of_family)
    adjusted = iter(holm([found.p_value for name in FAMILIES for found in asked[name].found]))
    families = tuple(_judge(name, asked[name], adjusted, settings) for name in FAMILIES)
    worst = max((family.verdict for family in families), key=SEVERITY.__getitem__)
    return DriftReport(worst, families, len(new), settings.alpha, dict(settings.limits))


class _Asked:
    """The tests of one family, and why others were not made."""

    def __init__(self, settings: DriftSettings) -> None:
        self.settings, self.found, self.notes = settings, list[Comparison](), list[str]()

    def add(self, name: str, reference: Values, new: Values, compare: Callable[..., Comparison]) -> None:
        """Compare the finite rows of two samples if they are enough."""
        kept = []
        for side, values in (("reference", reference), ("new", new)):
            finite = np.isfinite(values).all(axis=tuple(range(1, values.ndim)))
            if not finite.all():
                self.notes.append(f"{name}: {(~finite).sum():,} {side} images without a finite value are left out.")
            kept.append(values[finite].astype(np.float64))
        if self.enough(name, len(kept[0]), len(kept[1])):
            self.found.append(compare(name, *kept))

    def labelled(self, new: Observed) -> bool:
        """Tell whether any label of the new images is known, and note it where none is."""
        if not np.isnan(new.y_true).all():
            return True
        self.notes.append("The new images have no labels.")
        return False

    def enough(self, name: str, n_reference: int, n_new: int) -> bool:
        """Tell whether there are images for a test, and note it where there are not."""
        fewest = self.settings.min_images
        if min(n_reference, n_new) >= fewest:
            return True
        self.notes.append(
            f"{name}: too few to tell, {n_reference:,} reference images and {n_new:,} new ones; {fewest:,} of each, of "
            "as many patients, are needed."
        )
        return False


def _pixels(profile: Profile, new: Observed, asked: _Asked) -> None:
    if asked.enough("pixels", len(profile.statistics), len(new)):
        for place, name in enumerate(STATISTICS):
            asked.add(name, profile.statistics[:, place], new.statistics[:, place], compare_values)


def _features(profile: Profile, new: Observed, asked: _Asked) -> None:
    def compare(name: str, reference: Floats, fresh: Floats) -> Comparison:
        return compare_features(name, reference, fresh, seed=asked.settings.seed)

    asked.add("all features", profile.features, profile.project(new.features), compare)


def _scores(profile: Profile, new: Observed, asked: _Asked) -> None:
    for place, output in enumerate(profile.outputs):
        asked.add(output, profile.probability[:, place], new.probability[:, place], compare_scores)


def _prevalence(profile: Profile, new: Observed, asked: _Asked) -> None:
    if not asked.labelled(new):
        return
    for place, output in enumerate(profile.outputs):
        ours, theirs = (_positive_of_known(labels[:, place]) for labels in (profile.labels, new.y_true))
        if asked.enough(output, ours[1], theirs[1]):
            asked.found.append(compare_shares(output, ours, theirs))


def _positive_of_known(labels: Floats) -> tuple[int, int]:
    return int(np.nansum(labels)), int(np.count_nonzero(~np.isnan(labels)))


def _calibration(profile: Profile, new: Observed, asked: _Asked) -> None:
    if not asked.labelled(new):
        return
    for place, output in enumerate(profile.outputs):
        sides = [_known(images.y_true[:, place], images.probability[:, place]) for images in (profile, new)]
        if not asked.enough(output, *(len(true) for true, _ in sides)):
            continue
        rarest = min(int(min(true.sum(), (1 - true).sum())) for true, _ in sides)
        if rarest < FEWEST_OF_A_CLASS:
            asked.notes.append(
                f"{output}: too few to tell, {rarest:,} images of the rarer class on one side; {FEWEST_OF_A_CLASS} are "
                "needed."
            )
            continue
        asked.found.extend(compare_calibration(output, *sides))


def _known(true: Floats, probability: Floats) -> tuple[Floats, Floats]:
    known = ~np.isnan(true) & np.isfinite(probability)
    return true[known], probability[known]


def _judge(name: str, asked: _Asked, adjusted: Iterator[float], settings: DriftSettings) -> FamilyVerdict:
    findings = []
    for found in asked.found:
        p_holm = next(adjusted)
        findings.append(Finding(found, p_holm, _verdict(found.effect, p_holm, settings.limits[name], settings.alpha)))
    verdicts: Sequence[Verdict] = [finding.verdict for finding in findings] or ["unknown"]
    worst = max(verdicts, key=SEVERITY.__getitem__)
    return FamilyVerdict(name, worst, tuple(findings), tuple(dict.fromkeys(asked.notes)))


def _verdict(effect: float, p_holm: float, limits: Limits, alpha: float) -> Verdict:
    if p_holm >= alpha or effect < limits.warn:
        return "none"
    return "refuse" if limits.refuse is not None and effect >= limits.refuse else "warn"
