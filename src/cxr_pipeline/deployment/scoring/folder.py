"""Score every image below a folder in constant memory, with resume after a kill."""

import hashlib
import logging
import os
import shutil
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

import cxr_pipeline
from cxr_pipeline.common.array_store import ArrayStore
from cxr_pipeline.common.files import written_atomically
from cxr_pipeline.common.mappings import json_digest
from cxr_pipeline.common.parallel import map_in_order, n_cores
from cxr_pipeline.common.progress import progress_bar
from cxr_pipeline.data.images.recipe import Recipe, prepare_files
from cxr_pipeline.data.sources.folders import ImageFolder
from cxr_pipeline.data.sources.listing import printable
from cxr_pipeline.deployment.classifier import ImageClassifier, Prepared, output_columns

if TYPE_CHECKING:
    from cxr_pipeline.deployment.heatmaps import HeatMapFolder
    from cxr_pipeline.deployment.scoring.out_of_distribution import Screening

# Rows in memory at a time.
_WINDOW = 8192
# A kill loses at most this many scored images, or one batch if that is larger.
_SHARD_ROWS = 256
# With fewer images, starting worker processes takes longer than it saves.
_FEW_IMAGES = 256
_MAX_WORKERS = 16
# Images per task of a worker, because each task has an overhead of some milliseconds.
_TASK_IMAGES = 8
# The target of a link or the permissions of a file can change without a change of size and modification time.
_TEMPORARY_REASONS = (b"unreadable", b"outside_source")
# Reason of an out-of-distribution image, whether it is scored or refused.
OUT_OF_DISTRIBUTION = "out_of_distribution"
_TEXT = ("decision", "status", "reason")

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
        for batch in pq.ParquetFile(self.file).iter_batches(_WINDOW):
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


def score_folder(
    classifier: ImageClassifier,
    images: ImageFolder,
    *,
    scored_by: str,
    parts: Path,
    batch_size: int,
    heatmaps: Path | None = None,
    screening: "Screening | None" = None,
) -> Predictions:
    """Score the images in a folder. A refused image has a row with the reason.

    Worker processes read and decode files while the network scores. The rows are stored in the folder ``parts`` while
    scoring, for one process at a time, so that the next call resumes after a kill. An image is scored again only if its
    path, size or modification time has changed, or the model version (``scored_by``), the classifier, the screening,
    the folder or the version of this package. Links and unreadable images are retried in every call. Rows of another
    version or folder are removed at the end. The folder ``heatmaps`` gets a map of each scored image, as PNG.

    `UserError` is raised if a folder cannot be written.
    """
    if classifier.provenance.get("images") == "phantom":
        _log.warning("The model was trained on phantoms. Its predictions for images of patients are meaningless.")
    settings = _settings_digest(classifier, images.root, scored_by, screening)
    maps = None
    if heatmaps:
        from cxr_pipeline.deployment.heatmaps import HeatMapFolder

        maps = HeatMapFolder(classifier, heatmaps, settings, note=parts / "heatmaps.txt")
    scorer = _Scorer(classifier, images, parts / settings, batch_size, maps, screening)
    file = parts / "table.parquet"
    for leftover in parts.glob(".table-*"):
        leftover.unlink()
    with (
        progress_bar("Scoring images", sum(1 for _ in images)) as update,
        written_atomically(file) as temporary,
        pq.ParquetWriter(temporary, scorer.schema) as writer,
    ):
        listing = iter(images)
        while window := list(islice(listing, _WINDOW)):
            writer.write_table(scorer.score(window, advance=lambda n: update(advance=n)))
    features = scorer.finish()
    for folder in parts.iterdir():
        if folder.is_dir() and folder.name != settings:
            shutil.rmtree(folder, ignore_errors=True)
    return Predictions(file, scorer.n_kept, features)


class _Scorer:
    """Scores windows of a folder's listing, and stores their rows below ``folder``."""

    def __init__(
        self,
        classifier: ImageClassifier,
        images: ImageFolder,
        folder: Path,
        batch_size: int,
        maps: "HeatMapFolder | None",
        screening: "Screening | None",
    ) -> None:
        self._classifier, self._root, self._batch_size = classifier, images.root, batch_size
        self._maps, self._screening = maps, screening
        rule = classifier.decision_rule
        self._columns = output_columns("probability", rule.outputs)
        longest = max(len("|".join(rule.classes).encode()), 32)
        row = np.dtype([("probability", np.float64, (len(rule.outputs),)), *((name, f"S{longest}") for name in _TEXT)])
        self._rows = ArrayStore(folder / "rows", row)
        self._used: set[Path] = set()
        self._sample = frozenset(screening.sample(images)) if screening else frozenset()
        self._features = ArrayStore(folder / "features", screening.feature_type if screening else np.uint8)
        self._sampled: dict[str, Any] = {}
        self.n_kept = 0
        self.schema = self._table([], np.empty(0, row)).schema

    def score(self, window: Sequence[str], *, advance: Callable[[int], object]) -> pa.Table:
        """Score the images of a window that have no current row, and return the rows of all."""
        keys = [_key(self._root, image) for image in window]
        rows = np.empty(len(window), self._rows.dtype)
        new = []
        for place, (image, key) in enumerate(zip(window, keys, strict=True)):
            row = self._current_row(image, key)
            if row is None:
                new.append(place)
            else:
                rows[place] = row
        self.n_kept += len(window) - len(new)
        advance(len(window) - len(new))
        paths = [window[place] for place in new]
        prepared = _prepare(self._root, paths, self._classifier.recipe, pending=2 * self._batch_size)
        shard_rows = -(-_SHARD_ROWS // self._batch_size) * self._batch_size
        for shard in _chunks(new, shard_rows):
            for batch in _chunks(shard, self._batch_size):
                images = list(islice(prepared, len(batch)))
                rows[batch] = self._score_batch([window[place] for place in batch], images)
                advance(len(batch))
            self._write([window[place] for place in shard], [keys[place] for place in shard], rows[shard])
        return self._table(list(map(printable, window)), rows)

    def finish(self) -> NDArray[Any] | None:
        """Remove rows and heat maps of missing images; return the features of the sample that could be prepared."""
        self._rows.remove_shards_except(self._used)
        if self._maps:
            self._maps.remove_others()
        return np.array(list(self._sampled.values()), self._features.dtype) if self._screening else None

    def _current_row(self, image: str, key: str) -> Any:
        """Return the stored row of an image; None if it, the heat map or the features that it needs are missing."""
        if self._rows.missing([key]):
            return None
        row = self._rows.read([key])[0]
        if self._maps and row["status"] == b"scored" and not self._maps.keep(printable(image)):
            return None
        if image in self._sample:
            if not self._features.missing([key]):
                self._sampled[image] = self._features.read([key])[0]
            elif row["reason"] in (b"", OUT_OF_DISTRIBUTION.encode()):  # others have no features
                return None
        self._used.add(self._rows.shard_of(key))
        return row

    def _score_batch(self, paths: Sequence[str], prepared: Sequence[Prepared]) -> NDArray[Any]:
        if self._screening:
            table, features = self._screening.score_batch(prepared)
            usable = (path for path, image in zip(paths, prepared, strict=True) if isinstance(image, np.ndarray))
            self._sampled |= {path: row for path, row in zip(usable, features, strict=True) if path in self._sample}
        else:
            table = self._classifier.score_batch(prepared)
        if self._maps:
            self._maps.write(list(map(printable, paths)), prepared, table)
        rows = np.empty(len(table), self._rows.dtype)
        rows["probability"] = table[self._columns]
        for name in _TEXT:
            rows[name] = [text.encode() for text in table[name].fillna("")]
        return rows

    def _write(self, paths: Sequence[str], keys: Sequence[str], rows: NDArray[Any]) -> None:
        lasting = [place for place, key in enumerate(keys) if key and rows["reason"][place] not in _TEMPORARY_REASONS]
        sampled = [place for place in lasting if paths[place] in self._sampled]
        features = np.array([self._sampled[paths[place]] for place in sampled], self._features.dtype)
        self._features.write([keys[place] for place in sampled], features)
        self._rows.write([keys[place] for place in lasting], rows[lasting])
        self._used.update(self._rows.shard_of(keys[place]) for place in lasting)

    def _table(self, names: Sequence[str], rows: NDArray[Any]) -> pa.Table:
        columns = {"image": pa.array(names, pa.string())}
        for name, values in zip(self._columns, rows["probability"].T, strict=True):
            columns[name] = pa.array(values, pa.float64(), from_pandas=True)
        for name in _TEXT:
            columns[name] = pa.array([text.decode() or None for text in rows[name].tolist()], pa.string())
        return pa.table(columns)


def _settings_digest(classifier: ImageClassifier, root: Path, scored_by: str, screening: "Screening | None") -> str:
    """Return 16 hex digits of everything except the image that affects its row."""
    recipe, place = classifier.recipe.to_dict(), os.fsencode(root).hex()
    settings = [scored_by, classifier.digest, recipe, cxr_pipeline.__version__, place]
    return json_digest([*settings, screening.settings if screening else None])[:16]


def _key(root: Path, path: str) -> str:
    """Return 32 hex digits of an image's path, size and modification time; empty for links and anything but files."""
    try:
        status = os.lstat(root / path)
    except OSError:
        return ""
    if not stat.S_ISREG(status.st_mode):
        return ""
    name = b"%d %d " % (status.st_size, status.st_mtime_ns) + os.fsencode(path)
    return hashlib.blake2b(name, digest_size=16).hexdigest()


def _prepare(root: Path, paths: Sequence[str], recipe: Recipe, *, pending: int) -> Iterator[Prepared]:
    """Prepare images in order, about ``pending`` of them ahead of the consumer."""
    workers = min(n_cores(), _MAX_WORKERS) if len(paths) > _FEW_IMAGES else 1
    tasks = _chunks(paths, _TASK_IMAGES)
    results = map_in_order(
        partial(prepare_files, root, recipe), tasks, workers=workers, pending=max(pending // _TASK_IMAGES, 2 * workers)
    )
    for images in results:
        yield from images


def _chunks(items: Sequence[Any], size: int) -> list[Any]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def summarise(predictions: Predictions, classifier: ImageClassifier) -> dict[str, Any]:
    """Describe the classifier and count its predictions, as JSON types; log how many images were refused or flagged."""
    counts = predictions.counts()
    for kind in ("refused", "flagged"):
        if counts[kind]:
            reasons = ", ".join(f"{count} {reason}" for reason, count in counts[kind].items())
            _log.warning("Images %s: %d of %d (%s).", kind, sum(counts[kind].values()), len(predictions), reasons)
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
