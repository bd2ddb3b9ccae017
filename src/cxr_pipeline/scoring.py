"""Score every film below a folder."""

import logging
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from rich.progress import track

from cxr_pipeline.classifier import FilmClassifier, Prepared, probability_columns, threshold_columns
from cxr_pipeline.errors import FilmRefused, UserError
from cxr_pipeline.files import written_atomically

FILM_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".dcm", ".dicom")
# Enough to hide the latency of a disk; more would not decode faster, since decoding holds Python's lock.
_READERS = 4

Item = TypeVar("Item")
Result = TypeVar("Result")

_log = logging.getLogger(__name__)


def find_films(folder: str | None, *, key: str) -> tuple[Path, list[Path]]:
    """List the films below a folder, those in its subfolders too.

    Hidden files and folders are passed over. Links to folders are not followed: one that leads out of the
    folder is listed itself, as is a folder that cannot be read, so that scoring refuses it by name.

    Args:
        folder: as the user typed it.
        key: the parameter that it came from, for messages.

    Returns:
        The folder without links in its path, and the films' paths below it, sorted.

    Raises:
        UserError: no folder is given, it is not there, or it holds no films.
    """
    what_to_type = f"Name the folder that holds the films: --params {key}=DIR"
    if not folder:
        raise UserError(f"No folder of films to score is given: {key} is null. {what_to_type}")
    root = Path(os.path.realpath(Path(folder).expanduser()))
    if not root.is_dir():
        found = "a file" if root.exists() else "nothing"
        raise UserError(f"{key} must name a folder of films; found {found} at {root}. {what_to_type}")
    films = sorted(_candidates(root), key=os.fsencode)
    if not films:
        raise UserError(
            f"No film is below {root} ({key}): expected files that end in {', '.join(FILM_SUFFIXES)}. {what_to_type}"
        )
    return root, films


def _candidates(root: Path) -> Iterator[Path]:
    unreadable: list[Path] = []
    for parent, folders, files in os.walk(root, onerror=lambda error: unreadable.append(Path(error.filename))):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = [Path(parent, name) for name in folders]
        yield from (path for path in paths if path.is_symlink() and not _inside(path, root))
        yield from (Path(parent, name) for name in files if _looks_like_a_film(name))
    yield from unreadable


def _looks_like_a_film(name: str) -> bool:
    return not name.startswith(".") and name.lower().endswith(FILM_SUFFIXES)


def _inside(path: Path, root: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(root)


def check_classes(classifier: FilmClassifier, kind: str, classes: Sequence[str], *, key: str) -> None:
    """Check that a classifier decides between the classes of the task, and in its kind.

    Raises:
        UserError: it was trained for another task.
    """
    rule = classifier.decision_rule
    if (rule.kind, list(rule.classes)) != (kind, list(classes)):
        raise UserError(
            f"The model named by {key} decides between {', '.join(rule.classes)} ({rule.kind}); expected "
            f"one that decides between {', '.join(classes)} ({kind}). Name a model of this task, or none for "
            "its newest."
        )


def score_folder(
    classifier: FilmClassifier, root: Path, films: Sequence[Path], *, batch_size: int, heatmaps: Path | None = None
) -> pd.DataFrame:
    """Score films in files. A film that cannot be used becomes a row that says so, and the rest go on.

    Files are read and decoded on other threads while the network works; a few batches are in memory
    at once, whatever the number of films.

    Args:
        classifier: what scores them.
        root: the folder that the films must be in, links resolved.
        films: paths below ``root``.
        batch_size: films that go through the network at once.
        heatmaps: folder for a PNG of each film that is scored, with where the model looks; None for none.

    Returns:
        Table ``predictions`` with a row per film, in order: ``image``, the path relative to ``root``;
        the probabilities and ``decision``, null where refused; ``status``; ``reason``.
    """
    if classifier.provenance.get("films") == "phantom":
        _log.warning("The model was trained on phantoms: what it says about films of patients means nothing.")
    prepared = _work_ahead(partial(_prepare_file, classifier, root), films, pending=2 * batch_size)
    names = [_shown(film.relative_to(root)) for film in films]
    drawing = {"on_batch": HeatmapWriter(classifier, heatmaps, names)} if heatmaps else {}
    table = classifier.judge(prepared, batch_size=batch_size, **drawing)
    table.insert(0, "image", pd.Series(names, dtype="str"))
    refused = table.loc[table.status == "refused", "reason"].value_counts()
    if len(refused):
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(refused.items()))
        _log.warning("%d of %d films were refused: %s.", refused.sum(), len(table), reasons)
    probabilities = probability_columns(classifier.decision_rule.outputs)
    return table[["image", *probabilities, "decision", "status", "reason"]]


class HeatmapWriter:
    """Writes, as batches of films go by, where the model looks in each of them.

    It is asked about the class that is decided for; where that is none or several, about the output whose probability
    exceeds its threshold by the largest factor.

    Args:
        classifier: whose network is asked.
        folder: gets ``<image>.png`` for each film that is scored; an earlier one of a film that is refused is removed.
        images: the film's names, in the order in which they come.
    """

    def __init__(self, classifier: FilmClassifier, folder: Path, images: Sequence[str]) -> None:
        from cxr_pipeline.explain import GradCam

        self._cam = GradCam(classifier.model)
        self._outputs = classifier.decision_rule.outputs
        self._folder = folder
        self._images = iter(images)

    def __call__(self, films: Sequence[Prepared], judged: pd.DataFrame) -> None:
        """Draw the films of one batch, given their rows."""
        from PIL import Image

        from cxr_pipeline.report.heatmaps import overlay

        paths = [self._folder / f"{image}.png" for image in islice(self._images, len(films))]
        scored = []
        for film, path in zip(films, paths, strict=True):
            if isinstance(film, FilmRefused):
                with suppress(OSError):
                    path.unlink()
            else:
                scored.append((film, path))
        if not scored:
            return
        pixels = np.stack([film for film, _ in scored])
        maps = self._cam.heatmaps(pixels, self._asked(judged[judged["status"] == "scored"]))
        for (film, path), heatmap in zip(scored, maps, strict=True):
            with written_atomically(path) as beside:
                Image.fromarray(overlay(film, heatmap)).save(beside)

    def _asked(self, judged: pd.DataFrame) -> np.ndarray[Any, np.dtype[np.int64]]:
        probabilities = probability_columns(self._outputs)
        thresholds = threshold_columns(self._outputs)
        excess = judged[probabilities].to_numpy() / np.maximum(judged[thresholds].to_numpy(), 1e-12)
        decided = judged["decision"].map({output: place for place, output in enumerate(self._outputs)})
        return np.where(decided.isna(), excess.argmax(axis=1), decided.fillna(0)).astype(np.int64)


def _prepare_file(classifier: FilmClassifier, root: Path, path: Path) -> Prepared:
    from cxr_pipeline.images.decoding import read_bytes

    if not _inside(path, root):
        return FilmRefused("outside_source", "a link that leads out of the folder")
    try:
        return classifier.prepare(read_bytes(path))
    except FilmRefused as refusal:
        return refusal


def _shown(path: Path) -> str:
    return os.fsencode(path.as_posix()).decode("utf-8", "backslashreplace")


def _work_ahead(function: Callable[[Item], Result], items: Sequence[Item], *, pending: int) -> Iterator[Result]:
    """Map in order, with at most ``pending`` results computed or being computed ahead of the consumer."""
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(_READERS) as pool:
        for item in track(items, description="Scoring films"):
            waiting.append(pool.submit(function, item))
            if len(waiting) > pending:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def summarise(predictions: pd.DataFrame, classifier: FilmClassifier) -> dict[str, Any]:
    """Say what scored films and how many of them there were, as JSON types.

    Args:
        predictions: what ``score_folder`` returned.
        classifier: what scored them.

    Returns:
        ``digest``, ``recipe``, ``classes``, ``thresholds`` and ``provenance`` of the classifier;
        ``n_films``, ``n_scored``, ``decisions`` (films by decision) and ``refused`` (films by reason).
    """
    decided = predictions.decision.value_counts()
    refused = predictions.loc[predictions.status == "refused", "reason"].value_counts()
    return {
        "digest": classifier.digest,
        "recipe": classifier.recipe.digest,
        "classes": list(classifier.decision_rule.classes),
        "thresholds": dict(classifier.decision_rule.thresholds),
        "provenance": dict(classifier.provenance),
        "n_films": len(predictions),
        "n_scored": int((predictions.status == "scored").sum()),
        "decisions": {name: int(count) for name, count in sorted(decided.items())},
        "refused": {reason: int(count) for reason, count in sorted(refused.items())},
    }
