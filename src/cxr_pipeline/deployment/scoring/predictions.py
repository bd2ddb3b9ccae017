"""The predictions for a folder of images: a row per image, and counts."""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
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
    """A row per image of a folder, sorted by path, read from disk as needed.

    Args:
        file: Parquet file with the columns ``image``, the path below the folder; the probabilities and ``decision``,
            null if refused; ``status``; and ``reason``, for images that are refused or flagged.
        n_kept: images whose rows an earlier run computed.
        features: features of the sample for the drift check, ``Screening.feature_type`` [n]; None without screening.
    """

    file: Path
    n_kept: int
    features: NDArray[Any] | None

    def __len__(self) -> int:
        return int(pq.ParquetFile(self.file).metadata.num_rows)

    def __iter__(self) -> Iterator[pd.DataFrame]:
        """Yield tables of some thousand images each, sorted by path."""
        return self.tables()

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[pd.DataFrame]:
        """Yield tables with some of the columns; with all by default."""
        for batch in pq.ParquetFile(self.file).iter_batches(_ROWS, columns=columns):
            yield batch.to_pandas()

    def counts(self) -> dict[str, dict[str, int]]:
        """Count images.

        Returns:
            ``decisions``: images by decision; ``refused``: refused images by reason; ``flagged``: scored images that
            have a reason, by reason.
        """
        decisions: Counter[str] = Counter()
        reasons: dict[str, Counter[str]] = {"refused": Counter(), "scored": Counter()}
        for table in self.tables(["decision", "status", "reason"]):
            decisions.update(table["decision"].dropna().tolist())
            for status, counter in reasons.items():
                counter.update(table.loc[table["status"] == status, "reason"].dropna().tolist())
        counts = {"decisions": decisions, "refused": reasons["refused"], "flagged": reasons["scored"]}
        return {name: dict(sorted(counter.items())) for name, counter in counts.items()}


def warn_of_refused(predictions: Predictions) -> None:
    """Log how many images were refused or flagged, and why."""
    counts = predictions.counts()
    for kind in ("refused", "flagged"):
        if counts[kind]:
            reasons = ", ".join(f"{count} {reason}" for reason, count in counts[kind].items())
            _log.warning("%d of %d images were %s: %s.", sum(counts[kind].values()), len(predictions), kind, reasons)


def summarise(predictions: Predictions, classifier: ImageClassifier) -> dict[str, Any]:
    """Describe the classifier and count its predictions, as JSON types."""
    counts = predictions.counts()
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
