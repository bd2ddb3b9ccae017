"""New images: where they are, whose they are, what is known of them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr_pipeline.common.errors import ImageRefused
from cxr_pipeline.data.images.reader import Reader
from cxr_pipeline.data.sources.labels import LabelMap
from cxr_pipeline.data.sources.listing import Listing
from cxr_pipeline.data.sources.readers import FileReader
from cxr_pipeline.deployment.classifier import ImageClassifier
from cxr_pipeline.deployment.drift.feature_extraction import observe
from cxr_pipeline.deployment.drift.image_features import Observed, draw_images
from cxr_pipeline.deployment.scoring import find_images

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class NewImages:
    """Images that nobody has looked at yet.

    Args:
        readers: for each source what gives its images' contents.
        table: a row for each: ``source``, ``path``, ``patient_id`` (null where not known), and ``label_<class>`` where
            labels are known.
        n_left_out: images that do not belong to the task, or whose label cannot be read.
    """

    readers: Mapping[str, Reader]
    table: pd.DataFrame
    n_left_out: int = 0

    @classmethod
    def in_folder(cls, folder: str | None, *, key: str) -> NewImages:
        """List every image below a folder; of a bare folder neither patients nor labels are known.

        Args:
            folder: as the user typed it.
            key: the parameter that it came from, for messages.

        Raises:
            UserError: it is not there, or holds no images.
        """
        images = find_images(folder, key=key)
        paths = [image.path for image in images]
        table = pd.DataFrame({"source": "", "path": pd.Series(paths, dtype=object), "patient_id": None})
        return cls({"": FileReader(images.root)}, table)

    @classmethod
    def in_listing(cls, listing: Listing, reader: Reader, labels: LabelMap) -> NewImages:
        """Take those rows of a source that belong to a task."""
        rows = listing.images.join(labels.apply(listing.images, listing.vocabulary))
        wanted = rows["reason"].isna() & rows["left_out"].isna()
        table = rows[wanted].reset_index(drop=True).assign(source="")
        return cls({"": reader}, table, listing.n_rows - int(wanted.sum()))

    def look(
        self, classifier: ImageClassifier, *, max_images: int, batch_size: int, seed: int
    ) -> tuple[Observed, dict[str, Any]]:
        """Draw one image of each patient, and let the model look at it.

        Args:
            classifier: prepares the images and scores them.
            max_images: so many are looked at.
            batch_size: images at a time.
            seed: of the draw.

        Returns:
            what was seen, and counts: ``images``, ``left_out``, ``without_patient``, ``drawn``, ``looked_at``, and
            ``refused`` by reason.
        """
        patients = self.table["patient_id"]
        sources = self.table["source"]
        named = [None if pd.isna(who) else f"{source}/{who}" for source, who in zip(sources, patients, strict=True)]
        drawn = draw_images(named, at_most=max_images, seed=seed)
        kept: list[int] = []
        refused: Counter[str] = Counter()

        def batches() -> Iterator[NDArray[np.uint8]]:
            batch: list[NDArray[np.uint8]] = []
            for place in drawn.tolist():
                image = self._prepare(classifier, place)
                if isinstance(image, ImageRefused):
                    refused[image.reason] += 1
                    continue
                kept.append(place)
                batch.append(image)
                if len(batch) == batch_size:
                    yield np.stack(batch)
                    batch.clear()
            if batch:
                yield np.stack(batch)

        rule = classifier.decision_rule
        seen = observe(classifier.model, rule, batches())
        seen = replace(seen, source=sources.to_numpy(np.str_)[kept])
        columns = [f"label_{output}" for output in rule.outputs]
        if set(columns) <= set(self.table.columns):
            seen = replace(seen, y_true=self.table[columns].to_numpy("float64")[kept])
        if refused:
            _log.warning("%d of %d new images cannot be used: %s.", refused.total(), len(drawn), dict(refused))
        return seen, {
            "images": len(self.table),
            "left_out": self.n_left_out,
            "without_patient": int(patients.isna().sum()),
            "drawn": len(drawn),
            "looked_at": len(seen),
            "refused": dict(sorted(refused.items())),
        }

    def _prepare(self, classifier: ImageClassifier, place: int) -> NDArray[np.uint8] | ImageRefused:
        try:
            reader = self.readers[self.table["source"].iloc[place]]
            return classifier.prepare(reader.read(self.table["path"].iloc[place]))
        except ImageRefused as refusal:
            return refusal
