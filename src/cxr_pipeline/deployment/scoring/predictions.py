"""The predictions for a folder of images: a row per image, and counts."""

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cxr_pipeline.deployment.classifier import ImageClassifier

# Reason of an out-of-distribution image, whether it is scored or refused.
OUT_OF_DISTRIBUTION = "out_of_distribution"

_ROWS = 8192

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Predictions:
    """A row per image of a folder, sorted by path, read from disk as needed: iteration yields tables.

    Args:
        file: Parquet file with the columns ``image``, the path below the folder; the probabilities and ``decision``,
            null if refused; ``status``; and ``reason``, for images that are refused or flagged.
        n_kept: images whose rows an earlier run computed.
        features: of the sample for the drift check, ``Screening.feature_type`` [n]; None without screening.
    """

    file: Path
    n_kept: int
    features: NDArray[Any] | None

    def __len__(self) -> int:
        return int(pq.ParquetFile(self.file).metadata.num_rows)

    def __iter__(self) -> Iterator[pd.DataFrame]:
        for batch in pq.ParquetFile(self.file).iter_batches(_ROWS):
            yield batch.to_pandas()

    def counts(self) -> dict[str, dict[str, int]]:
        """Return ``decisions``: images by decision; ``refused`` and ``flagged`` (scored, with a reason): by reason."""
        decisions, refused, flagged = Counter[str](), Counter[str](), Counter[str]()
        for table in self:
            decisions.update(table["decision"].dropna())
            is_refused = table["status"] == "refused"
            refused.update(table.loc[is_refused, "reason"])
            flagged.update(table.loc[~is_refused, "reason"].dropna())
        counts = {"decisions": decisions, "refused": refused, "flagged": flagged}
        return {name: dict(sorted(counter.items())) for name, counter in counts.items()}


def summarise(predictions: Predictions, classifier: ImageClassifier) -> dict[str, Any]:
    """Describe the classifier and count its predictions, as JSON types; log how many images were refused or flagged."""
    counts = predictions.counts()
    for kind in ("refused", "flagged"):
        if counts[kind]:
            reasons = ", ".join(f"{count} {reason}" for reason, count in counts[kind].items())
            _log.warning("%d of %d images were %s: %s.", sum(counts[kind].values()), len(predictions), kind, reasons)
    return {
        "digest": classifier.digest,
        "recipe": classifier.recipe.digest,
        "classes": list(classifier.decision_rule.classes),
        "thresholds": dict(classifier.decision_rule.thresholds),
        "provenance": dict(classifier.provenance),
        "n_images": len(predictions),
        "n_scored": len(predictions) - sum(counts["refused"].values()),
        "n_kept": predictions.n_kept,
        **counts,
    }
