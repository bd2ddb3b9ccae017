"""Score every film below a folder, however many there are."""

import hashlib
import json
import logging
import os
import shutil
import stat
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

import cxr_pipeline
from cxr_pipeline.classifier import FilmClassifier, Prepared, probability_columns
from cxr_pipeline.errors import UserError
from cxr_pipeline.scoring.films import FilmFolder, FoundFilm
from cxr_pipeline.scoring.heatmaps import HeatMapFolder
from cxr_pipeline.scoring.parts import KEY, Parts
from cxr_pipeline.scoring.preparing import prepare_ahead

# What stands behind these can change while the file's size and time of change stay as they are.
_NOT_REMEMBERED = ("unreadable", "outside_source")
_MAPS_OF = "heatmaps.txt"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Predictions:
    """A row for each film of a folder, read from its parts as it is asked for.

    Args:
        n_kept: films that had been scored before.
    """

    parts: Parts
    rows: NDArray[np.int64]
    columns: tuple[str, ...]
    n_kept: int
    # Held as long as someone may read: another scoring would clear the parts away.
    lock: FileLock

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[pd.DataFrame]:
        """Tables of some thousand films each, in order: ``image``, probabilities, decision, status and reason."""
        return self.tables(self.columns)

    def tables(self, columns: Sequence[str]) -> Iterator[pd.DataFrame]:
        """The same with some of the columns."""
        return self.parts.tables(self.rows, columns)


@dataclass(frozen=True)
class _KeyedFilm(FoundFilm):
    key: str


def score_folder(
    classifier: FilmClassifier,
    films: FilmFolder,
    *,
    scored_by: str,
    parts: Path,
    batch_size: int,
    heatmaps: Path | None = None,
) -> Predictions:
    """Score films in files. A film that cannot be used becomes a row that says so, and the rest go on.

    Files are read and decoded on other cores while the network works. Rows are written in parts as they come: after a
    kill the next call goes on from there. A film is not scored again as long as its path, its size and its time of
    change are the same, and the model and the folder too; but a link is, and a film that could not be read.

    Args:
        classifier: what scores them.
        films: the folder.
        scored_by: name of the model version, which its parts belong to.
        parts: folder for the rows; those of another model or folder are removed at the end.
        batch_size: films that go through the network at once.
        heatmaps: folder for a PNG of each film that is scored, with where the model looks; None for none.

    Returns:
        a row per film, sorted by path: ``image``, the path below the folder; the probabilities and ``decision``, null
        where refused; ``status``; ``reason``.

    Raises:
        UserError: a folder cannot be written, or another scoring writes there.
    """
    if classifier.provenance.get("films") == "phantom":
        _log.warning("The model was trained on phantoms: what it says about films of patients means nothing.")
    lock = _locked(parts)
    setting = _setting(classifier, films.root, scored_by)
    columns = ("image", *probability_columns(classifier.decision_rule.outputs), "decision", "status", "reason")
    kept = Parts(parts / setting, columns)
    maps = _map_folder(classifier, heatmaps, parts / _MAPS_OF, setting) if heatmaps else None
    n_known, rows = len(kept), array("q")
    with Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task("Scoring films", total=films.count())
        new = _new_films(films, kept, rows, keep=maps.keep if maps else None, advance=lambda: progress.advance(bar))
        prepared = prepare_ahead(films.root, new, classifier.recipe, pending=2 * batch_size)
        while batch := list(islice(prepared, batch_size)):
            kept.add(_judged(classifier, batch, maps))
    kept.flush()
    numbers = np.frombuffer(rows, dtype=np.int64) if rows else np.empty(0, np.int64)
    _clear(parts, setting, kept, numbers, maps)
    predictions = Predictions(kept, numbers, columns, int((numbers < n_known).sum()), lock)
    _warn_of_refused(predictions)
    return predictions


def _locked(parts: Path) -> FileLock:
    try:
        parts.mkdir(parents=True, exist_ok=True)
        lock = FileLock(parts / ".lock", timeout=0)
        lock.acquire()
    except Timeout:
        raise UserError(
            f"Films are being scored into {parts.parent} by another run. Wait until it has ended, or end it, and run "
            "the same command again."
        ) from None
    except OSError as error:
        raise UserError(
            f"Predictions cannot be written to {parts}: {error.strerror or error}. Expected a folder that this user "
            "may write. Mend that and run the same command again."
        ) from error
    return lock


def _setting(classifier: FilmClassifier, root: Path, scored_by: str) -> str:
    """Name what, beside a film, decides its row: 16 hex digits."""
    decisive = [
        scored_by,
        classifier.digest,
        classifier.recipe.to_dict(),
        cxr_pipeline.__version__,
        os.fsencode(root).hex(),
    ]
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:16]


def _map_folder(classifier: FilmClassifier, folder: Path, note: Path, setting: str) -> HeatMapFolder:
    """Open the folder of heat maps; ``note`` says whose maps there are."""
    known = note.is_file() and note.read_text() == setting
    maps = HeatMapFolder(classifier, folder, known=known)
    note.write_text(setting)
    return maps


def _new_films(
    films: FilmFolder,
    kept: Parts,
    rows: "array[int]",
    *,
    keep: Callable[[str], bool] | None,
    advance: Callable[[], None],
) -> Iterator[_KeyedFilm]:
    """The films that are to be scored; into ``rows`` goes the number of the row of each film, kept ones too."""
    n_rows = len(kept)
    for film in films:
        key = _key(films.root, film)
        row = kept.find(key)
        if row is None or (keep is not None and not keep(film.image)):
            rows.append(n_rows)
            n_rows += 1
            yield _KeyedFilm(film.path, film.link, key)
        else:
            rows.append(row)
        advance()


def _key(root: Path, film: FoundFilm) -> str:
    """Name a film's path, size and time of change in 32 hex digits; nothing for what must be looked at again."""
    if film.link:
        return ""
    try:
        found = os.stat(root / film.path)  # noqa: PTH116
    except OSError:
        return ""
    if not stat.S_ISREG(found.st_mode):
        return ""
    name = b"%d %d " % (found.st_size, found.st_mtime_ns) + os.fsencode(film.path)
    return hashlib.blake2b(name, digest_size=16).hexdigest()


def _judged(
    classifier: FilmClassifier, batch: Sequence[tuple[_KeyedFilm, Prepared]], maps: HeatMapFolder | None
) -> pd.DataFrame:
    found, prepared = [film for film, _ in batch], [film for _, film in batch]
    judged = classifier.judge_batch(prepared)
    images = [film.image for film in found]
    if maps:
        maps.write(images, prepared, judged)
    keys = pd.Series([film.key for film in found], dtype="str").mask(judged["reason"].isin(_NOT_REMEMBERED), "")
    return judged.assign(image=pd.Series(images, dtype="str"), **{KEY: keys})


def _clear(parts: Path, setting: str, kept: Parts, rows: NDArray[np.int64], maps: HeatMapFolder | None) -> None:
    kept.remove_unused(rows)
    for folder in parts.iterdir():
        if folder.is_dir() and folder.name != setting:
            shutil.rmtree(folder, ignore_errors=True)
    if maps:
        maps.remove_others()


def _warn_of_refused(predictions: Predictions) -> None:
    refused = _count(predictions, "reason")
    if refused:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(refused.items()))
        _log.warning("%d of %d films were refused: %s.", sum(refused.values()), len(predictions), reasons)


def _count(predictions: Predictions, column: str) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for table in predictions.tables([column]):
        counts.update(table[column].dropna().tolist())
    return dict(counts)


def summarise(predictions: Predictions, classifier: FilmClassifier) -> dict[str, Any]:
    """Say what scored films and how many of them there were, as JSON types.

    Args:
        predictions: what ``score_folder`` returned.
        classifier: what scored them.

    Returns:
        ``digest``, ``recipe``, ``classes``, ``thresholds`` and ``provenance`` of the classifier; ``n_films``;
        ``n_scored``; ``n_kept``, the films among all these whose rows are those of an earlier run; ``decisions``
        (films by decision) and ``refused`` (films by reason).
    """
    refused = _count(predictions, "reason")
    return {
        "digest": classifier.digest,
        "recipe": classifier.recipe.digest,
        "classes": list(classifier.decision_rule.classes),
        "thresholds": dict(classifier.decision_rule.thresholds),
        "provenance": dict(classifier.provenance),
        "n_films": len(predictions),
        "n_scored": len(predictions) - sum(refused.values()),
        "n_kept": predictions.n_kept,
        "decisions": dict(sorted(_count(predictions, "decision").items())),
        "refused": dict(sorted(refused.items())),
    }
