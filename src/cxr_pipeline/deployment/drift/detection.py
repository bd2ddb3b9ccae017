"""Detect drift: compare new images, or their features, with a reference profile."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr_pipeline.common.errors import ImageRefused
from cxr_pipeline.data.images.recipe import prepare_content
from cxr_pipeline.data.sources.folders import find_images
from cxr_pipeline.data.sources.labels import LabelMap
from cxr_pipeline.data.sources.listing import Listing
from cxr_pipeline.data.sources.readers import FileReader, Reader
from cxr_pipeline.deployment.classifier import ImageClassifier
from cxr_pipeline.deployment.drift.image_features import (
    STATISTICS,
    ImageFeatures,
    extract_features,
    sample_one_per_patient,
)
from cxr_pipeline.deployment.drift.reference_profile import ReferenceProfile
from cxr_pipeline.deployment.drift.two_sample_tests import (
    compare_brier_excess,
    compare_calibration_in_the_large,
    compare_features,
    compare_prevalence,
    compare_scores,
    compare_values,
)
from cxr_pipeline.evaluation.paired_bootstrap import holm

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class NewImages:
    """Images that are not prepared yet, each a row of ``table``, with the reader of each source.

    The columns are ``source``, ``path``, ``patient_id`` (null if unknown) and, if known, ``label_<class>``. Images that
    do not belong to the task, or whose label cannot be read, are left out.
    """

    readers: Mapping[str, Reader]
    table: pd.DataFrame
    n_left_out: int = 0

    @classmethod
    def from_folder(cls, folder: str | None, *, key: str) -> NewImages:
        """List every image below a folder, the value of the parameter ``key``; patients and labels are unknown."""
        images = find_images(folder, key=key)
        paths = pd.Series(list(images), dtype=object)
        table = pd.DataFrame({"source": "", "path": paths, "patient_id": pd.Series(None, paths.index, dtype="str")})
        # The model's recipe decides which are accepted.
        return cls({"": FileReader(images.root, modalities=(), body_parts=())}, table)

    @classmethod
    def from_listing(cls, listing: Listing, reader: Reader, labels: LabelMap) -> NewImages:
        """Select the rows of a source that belong to a task."""
        rows = listing.images.join(labels.apply(listing.images, listing.vocabulary))
        usable = rows[rows["reason"].isna() & rows["left_out"].isna()]
        table = usable.reset_index(drop=True).assign(source="")
        return cls({"": reader}, table, listing.n_rows - len(table))

    def extract_features(
        self, classifier: ImageClassifier, *, max_images: int, batch_size: int, seed: int
    ) -> tuple[ImageFeatures, dict[str, Any]]:
        """Sample one image of each patient, at most ``max_images``; return its features, and counts for the report."""
        sample = sample_one_per_patient(self.table, max_images=max_images, seed=seed)
        usable: list[bool] = []
        refused: Counter[str] = Counter()

        def batches() -> Iterator[NDArray[np.uint8]]:
            for start in range(0, len(sample), batch_size):
                rows, images = sample.iloc[start : start + batch_size], []
                for source, path in zip(rows["source"], rows["path"], strict=True):
                    try:
                        images.append(prepare_content(self.readers[source].read(path), classifier.recipe))
                        usable.append(True)
                    except ImageRefused as refusal:
                        refused[refusal.reason] += 1
                        usable.append(False)
                if images:
                    yield np.stack(images)

        rule = classifier.decision_rule
        features = extract_features(classifier.model, rule, batches(), n_images=len(sample))
        features = features.with_metadata(sample.loc[usable], rule.outputs)
        if refused:
            _log.warning("%d of %d new images cannot be used: %s.", refused.total(), len(sample), dict(refused))
        return features, {
            "images": len(self.table),
            "left_out": self.n_left_out,
            "without_patient": int(self.table["patient_id"].isna().sum()),
            "drawn": len(sample),
            "looked_at": len(features),
            "refused": dict(sorted(refused.items())),
        }


def check_new_images(
    new_images: NewImages,
    classifier: ImageClassifier,
    profile: ReferenceProfile,
    parameters: Mapping[str, Any],
    *,
    about: Mapping[str, Any],
    version: Mapping[str, Any],
    place: str,
) -> dict[str, Any]:
    """Compare new images with a model's reference profile by the ``drift`` parameters, and log the verdict.

    The report of `detect_drift` is extended by ``new_images``, ``reference``, ``model`` and the other arguments:
    ``about``, with ``task``, ``title`` and ``phantom``; the ``version`` of the model; and the ``place`` of the new
    images.
    """
    sampling = {name: parameters[name] for name in ("max_images", "batch_size", "seed")}
    features, counts = new_images.extract_features(classifier, **sampling)
    settings = {name: parameters[name] for name in ("alpha", "min_images", "limits", "seed")}
    report = detect_drift(profile, features, **settings)
    level = logging.INFO if report["verdict"] == "none" else logging.WARNING
    _log.log(level, "Drift of %s: %s. %s", about["task"], report["verdict"], report["sentence"])
    return {
        **about,
        **report,
        "new_images": {"place": place, **counts},
        "reference": {"training_images": len(profile.training), "validation_images": len(profile.held_out)},
        "model": {**version, "digest": classifier.digest},
    }


Limits = Mapping[str, Mapping[str, float | None]]
Values = NDArray[np.floating]
# What is compared, and its value for each image of the reference and each new image.
Sample = tuple[str, Values, Values]

# By severity; "unknown" ranks below "none", so that one family that could be tested decides.
VERDICTS = ("unknown", "none", "warn", "refuse")
FAMILIES = ("pixels", "features", "scores", "prevalence", "calibration")
LABELLED = ("prevalence", "calibration")
# Calibration needs a mean over images of either class.
MIN_IMAGES_PER_CLASS = 10


def detect_drift(
    profile: ReferenceProfile, new: ImageFeatures, *, alpha: float, min_images: int, limits: Limits, seed: int
) -> dict[str, Any]:
    """Compare new images, one per patient, with a reference profile.

    A test of at least ``min_images`` on each side reports drift if its p-value is below ``alpha`` after Holm's
    correction for all tests of the check, and its effect reaches the limit of its family in ``limits``: that of
    ``warn``, or that of ``refuse`` (None for never). With thousands of images, an irrelevant difference can be
    significant; with a handful, a large difference can occur by chance. Images with values that are not finite are
    skipped and counted. The profile is reduced to the sources of the new images, see `ReferenceProfile.match_sources`.
    ``seed`` decides the reduction and the halves of the domain classifier.

    Returns:
        JSON types: ``verdict``, the worst of all families, ``unknown`` if no family could be tested; ``sentence``, the
        result in words; ``n_new``, ``alpha`` and ``limits``; ``families`` in the order of ``FAMILIES``, each with
        ``name``, ``verdict``, ``notes`` on skipped images and tests, and ``tests``: the results of `two_sample_tests`,
        with ``p_holm`` (the corrected p-value) and ``verdict``.
    """
    profile = profile.match_sources(new.source, min_images=min_images, seed=seed)
    comparisons: dict[str, list[Callable[..., dict[str, Any]]]] = {
        "pixels": [compare_values],
        "features": [partial(compare_features, seed=seed)],
        "scores": [compare_scores],
        "prevalence": [compare_prevalence],
        "calibration": [compare_calibration_in_the_large, compare_brier_excess],
    }
    labelled = not np.isnan(new.y_true).all()
    families: list[dict[str, Any]] = []
    for name, samples in _samples(profile, new).items():
        tests, notes = list[dict[str, Any]](), list[str]()
        if name in LABELLED and not labelled:
            notes.append("The new images have no labels.")
        else:
            usable = _usable_samples(name, samples, min_images, notes)
            tests = [compare(*sample) for sample in usable for compare in comparisons[name]]
        families.append({"name": name, "verdict": "unknown", "notes": list(dict.fromkeys(notes)), "tests": tests})
    corrected = iter(holm([test["p_value"] for family in families for test in family["tests"]]))
    for family in families:
        for test in family["tests"]:
            test["p_holm"] = next(corrected)
            test["verdict"] = _verdict(test["effect"], test["p_holm"], limits[family["name"]], alpha)
        family["verdict"] = _worst(family["tests"])
    return {
        "verdict": _worst(families),
        "sentence": _sentence(families, len(new)),
        "n_new": len(new),
        "alpha": alpha,
        "limits": {name: dict(limits[name]) for name in FAMILIES},
        "families": families,
    }


def _samples(profile: ReferenceProfile, new: ImageFeatures) -> dict[str, list[Sample]]:
    """Return the samples that each family compares."""
    training, held_out = profile.training, profile.held_out
    samples: dict[str, list[Sample]] = {name: [] for name in FAMILIES}
    for column, name in enumerate(STATISTICS):
        samples["pixels"].append((name, training.statistics[:, column], new.statistics[:, column]))
    samples["features"].append(("all features", held_out.features, profile.project(new.features)))
    for column, output in enumerate(profile.outputs):
        samples["scores"].append((output, held_out.probability[:, column], new.probability[:, column]))
        samples["prevalence"].append((output, training.y_true[:, column], new.y_true[:, column]))
        calibration = [np.stack([side.y_true, side.probability], axis=-1)[:, column] for side in (held_out, new)]
        samples["calibration"].append((output, calibration[0], calibration[1]))
    return samples


def _usable_samples(family: str, samples: Sequence[Sample], min_images: int, notes: list[str]) -> list[Sample]:
    """Return the samples without images that have no finite value or no known label, unless too few are left."""
    usable: list[Sample] = []
    for name, *sides in samples:
        kept = []
        for kind, values in zip(("reference", "new"), sides, strict=True):
            finite = np.isfinite(values).all(axis=tuple(range(1, values.ndim)))
            if family not in LABELLED and not finite.all():
                notes.append(f"{name}: {(~finite).sum():,} {kind} images without a finite value are left out.")
            kept.append(values[finite].astype(np.float64))
        reference, new = kept
        if min(len(reference), len(new)) < min_images:
            complete = list(map(len, kept)) == list(map(len, sides))
            notes.append(
                f"{family if complete else name}: {len(reference):,} reference images and {len(new):,} new images; "
                f"{min_images:,} of each, one per patient, are needed."
            )
            continue
        if family == "calibration":
            n_rarest = min(np.count_nonzero(side[:, 0] == label) for side in kept for label in (0, 1))
            if n_rarest < MIN_IMAGES_PER_CLASS:
                notes.append(f"{name}: {n_rarest:,} images of the rarer class; {MIN_IMAGES_PER_CLASS} are needed.")
                continue
        usable.append((name, reference, new))
    return usable


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


def _worst(results: Sequence[Mapping[str, Any]]) -> str:
    return max((result["verdict"] for result in results), key=VERDICTS.index, default="unknown")


def _verdict(effect: float, p_holm: float, limits: Mapping[str, float | None], alpha: float) -> str:
    warn, refuse = limits["warn"], limits["refuse"]
    if p_holm >= alpha or warn is None or effect < warn:
        return "none"
    return "refuse" if refuse is not None and effect >= refuse else "warn"
