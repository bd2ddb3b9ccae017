"""Score every film below a folder."""

import logging
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
from rich.progress import track

from cxr_pipeline.classifier import FilmClassifier, Prepared
from cxr_pipeline.errors import FilmRefused, UserError

FILM_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
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


def check_classes(classifier: FilmClassifier, classes: Sequence[str], *, key: str) -> None:
    """Check that a classifier decides between the classes of the task.

    Raises:
        UserError: it was trained for another task.
    """
    if list(classifier.decision_rule.classes) != list(classes):
        raise UserError(
            f"The model named by {key} decides between {', '.join(classifier.decision_rule.classes)}; expected one "
            f"that decides between {', '.join(classes)}. Name a model of this task, or none for its newest."
        )


def score_folder(classifier: FilmClassifier, root: Path, films: Sequence[Path], *, batch_size: int) -> pd.DataFrame:
    """Score films in files. A film that cannot be used becomes a row that says so, and the rest go on.

    Files are read and decoded on other threads while the network works; a few batches are in memory
    at once, whatever the number of films.

    Args:
        classifier: what scores them.
        root: the folder that the films must be in, links resolved.
        films: paths below ``root``.
        batch_size: films that go through the network at once.

    Returns:
        Table ``predictions`` with a row per film, in order: ``image``, the path relative to ``root``;
        ``probability`` and ``decision``, null where refused; ``status``; ``reason``.
    """
    if classifier.provenance.get("films") == "phantom":
        _log.warning("The model was trained on phantoms: what it says about films of patients means nothing.")
    prepared = _work_ahead(partial(_prepare_file, classifier, root), films, pending=2 * batch_size)
    table = classifier.judge(prepared, batch_size=batch_size)
    table.insert(0, "image", pd.Series([_shown(film.relative_to(root)) for film in films], dtype="str"))
    refused = table.loc[table.status == "refused", "reason"].value_counts()
    if len(refused):
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(refused.items()))
        _log.warning("%d of %d films were refused: %s.", refused.sum(), len(table), reasons)
    return table[["image", "probability", "decision", "status", "reason"]]


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
        ``digest``, ``recipe``, ``classes``, ``threshold`` and ``provenance`` of the classifier;
        ``n_films``, ``n_scored``, ``decisions`` (films by class) and ``refused`` (films by reason).
    """
    decided = predictions.decision.value_counts()
    refused = predictions.loc[predictions.status == "refused", "reason"].value_counts()
    return {
        "digest": classifier.digest,
        "recipe": classifier.recipe.digest,
        "classes": list(classifier.decision_rule.classes),
        "threshold": float(classifier.decision_rule.threshold),
        "provenance": dict(classifier.provenance),
        "n_films": len(predictions),
        "n_scored": int((predictions.status == "scored").sum()),
        "decisions": {name: int(decided.get(name, 0)) for name in classifier.decision_rule.classes},
        "refused": {reason: int(count) for reason, count in sorted(refused.items())},
    }
