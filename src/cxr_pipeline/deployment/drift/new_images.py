"""New images, and their comparison with a model's own images."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
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
from cxr_pipeline.deployment.drift.detection import detect_drift
from cxr_pipeline.deployment.drift.image_features import ImageFeatures, extract_features, sample_one_per_patient
from cxr_pipeline.deployment.drift.reference_profile import ReferenceProfile

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
        paths = pd.Series([image.path for image in images], dtype=object)
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
        features = extract_features(classifier.model, rule, batches())
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
