"""What came of a folder of images: a row for each, and counts."""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock
from numpy.typing import NDArray

from cxr_pipeline.deployment.classifier import ImageClassifier
from cxr_pipeline.deployment.scoring.resumable_rows import Parts

# The reason of an image that is unlike those that the model comes from, be it scored or refused.
UNLIKE = "unlike_training"
# Column of the parts, and not of the predictions: what was seen of an image that is looked at for the verdict on all.
OBSERVED = "observed"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Predictions:
    """A row for each image of a folder, read from its parts as it is asked for.

    Args:
        n_kept: images that had been scored before.
        drawn: numbers of the rows of images that were drawn to be looked at.
    """

    parts: Parts
    rows: NDArray[np.int64]
    columns: tuple[str, ...]
    n_kept: int
    drawn: NDArray[np.int64]
    # Held as long as someone may read: another scoring would clear the parts away.
    lock: FileLock

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[pd.DataFrame]:
        """Tables of some thousand images each, in order: ``image``, probabilities, decision, status and reason."""
        return self.tables(self.columns)

    def tables(self, columns: Sequence[str]) -> Iterator[pd.DataFrame]:
        """The same with some of the columns."""
        return self.parts.tables(self.rows, columns)

    def observed(self) -> list[bytes]:
        """What was seen of each image that was drawn and could be prepared."""
        tables = self.parts.tables(self.drawn, [OBSERVED])
        return [seen for table in tables for seen in table[OBSERVED].dropna() if seen]

    def counts(self) -> dict[str, dict[str, int]]:
        """Count images: ``decisions`` by decision, ``refused`` by reason, and ``flagged`` ones, scored, by reason."""
        decisions: Counter[str] = Counter()
        reasons: dict[str, Counter[str]] = {"refused": Counter(), "scored": Counter()}
        for table in self.tables(["decision", "status", "reason"]):
            decisions.update(table["decision"].dropna().tolist())
            for status, counter in reasons.items():
                counter.update(table.loc[table["status"] == status, "reason"].dropna().tolist())
        counted = {"decisions": decisions, "refused": reasons["refused"], "flagged": reasons["scored"]}
        return {name: dict(sorted(counter.items())) for name, counter in counted.items()}


def warn_of_refused(predictions: Predictions) -> None:
    """Log how many images were refused, or flagged, and why."""
    counts = predictions.counts()
    for what in ("refused", "flagged"):
        if counts[what]:
            reasons = ", ".join(f"{count} {reason}" for reason, count in counts[what].items())
            _log.warning("%d of %d images were %s: %s.", sum(counts[what].values()), len(predictions), what, reasons)


def summarise(predictions: Predictions, classifier: ImageClassifier) -> dict[str, Any]:
    """Say what scored images and how many of them there were, as JSON types.

    Args:
        predictions: what ``score_folder`` returned.
        classifier: what scored them.

    Returns:
        ``digest``, ``recipe``, ``classes``, ``thresholds`` and ``provenance`` of the classifier; ``n_images``;
        ``n_scored``; ``n_kept``, the images among all these whose rows are those of an earlier run; ``decisions``
        (images by decision), ``refused`` and ``flagged`` (images by reason).
    """
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
