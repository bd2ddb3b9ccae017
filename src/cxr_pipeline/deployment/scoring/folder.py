"""Score every image below a folder, however many there are."""

import hashlib
import json
import logging
import os
import shutil
import stat
from array import array
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

import cxr_pipeline
from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.image_folder import ImageFile, ImageFolder
from cxr_pipeline.deployment.classifier import ImageClassifier, Prepared, probability_columns
from cxr_pipeline.deployment.scoring.heatmaps import HeatMapFolder
from cxr_pipeline.deployment.scoring.predictions import OBSERVED, Predictions, warn_of_refused
from cxr_pipeline.deployment.scoring.prefetching import prepare_ahead
from cxr_pipeline.deployment.scoring.resumable_rows import KEY, Parts

if TYPE_CHECKING:
    from cxr_pipeline.deployment.scoring.ood_screening import Lookout

# What stands behind these can change while the file's size and time of change stay as they are.
_NOT_REMEMBERED = ("unreadable", "outside_source")
_MAPS_OF = "heatmaps.txt"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _KeyedImage(ImageFile):
    key: str


def score_folder(
    classifier: ImageClassifier,
    images: ImageFolder,
    *,
    scored_by: str,
    parts: Path,
    batch_size: int,
    heatmaps: Path | None = None,
    lookout: "Lookout | None" = None,
) -> Predictions:
    """Score images in files. An image that cannot be used becomes a row that says so, and the rest go on.

    Files are read and decoded on other cores while the network works. Rows are written in parts as they come: after a
    kill the next call goes on from there. An image is not scored again as long as its path, its size and its time of
    change are the same, and the model and the folder too; but a link is, and an image that could not be read.

    Args:
        classifier: what scores them.
        images: the folder.
        scored_by: name of the model version, which its parts belong to.
        parts: folder for the rows; those of another model or folder are removed at the end.
        batch_size: images that go through the network at once.
        heatmaps: folder for a PNG of each image that is scored, with where the model looks; None for none.
        lookout: compares the images with those that the model comes from; None for no such comparison.

    Returns:
        a row per image, sorted by path: ``image``, the path below the folder; the probabilities and ``decision``, null
        where refused; ``status``; ``reason``, also of an image that is scored and flagged.

    Raises:
        UserError: a folder cannot be written, or another scoring writes there.
    """
    if classifier.provenance.get("images") == "phantom":
        _log.warning("The model was trained on phantoms: what it says about images of patients means nothing.")
    lock = _locked(parts)
    setting = _setting(classifier, images.root, scored_by, lookout)
    columns = ("image", *probability_columns(classifier.decision_rule.outputs), "decision", "status", "reason")
    kept = Parts(parts / setting, (*columns, OBSERVED))
    maps = _map_folder(classifier, heatmaps, parts / _MAPS_OF, setting) if heatmaps else None
    n_known, rows = len(kept), array("q")
    sample, unseen = _drawn(images, kept, lookout)

    def again(image: ImageFile) -> bool:
        return image.path in unseen or (maps is not None and not maps.keep(image.name))

    with Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task("Scoring images", total=images.count())
        new = _new_images(images, kept, rows, sample, again=again, advance=lambda: progress.advance(bar))
        prepared = prepare_ahead(images.root, new, classifier.recipe, pending=2 * batch_size)
        while batch := list(islice(prepared, batch_size)):
            kept.add(_judged(classifier, batch, maps, lookout, sample))
    kept.flush()
    numbers = np.frombuffer(rows, dtype=np.int64) if rows else np.empty(0, np.int64)
    _clear(parts, setting, kept, numbers, maps)
    drawn = np.array([row for row in sample.values() if row is not None], np.int64)
    predictions = Predictions(kept, numbers, columns, int((numbers < n_known).sum()), drawn, lock)
    warn_of_refused(predictions)
    return predictions


def _locked(parts: Path) -> FileLock:
    try:
        parts.mkdir(parents=True, exist_ok=True)
        lock = FileLock(parts / ".lock", timeout=0)
        lock.acquire()
    except Timeout:
        raise UserError(
            f"Images are being scored into {parts.parent} by another run. Wait until it has ended, or end it, and run "
            "the same command again."
        ) from None
    except OSError as error:
        raise UserError(
            f"Predictions cannot be written to {parts}: {error.strerror or error}. Expected a folder that this user "
            "may write. Mend that and run the same command again."
        ) from error
    return lock


def _setting(classifier: ImageClassifier, root: Path, scored_by: str, lookout: "Lookout | None") -> str:
    """Name what, beside an image, decides its row: 16 hex digits."""
    decisive = [
        scored_by,
        classifier.digest,
        classifier.recipe.to_dict(),
        cxr_pipeline.__version__,
        os.fsencode(root).hex(),
        lookout.setting if lookout else None,
    ]
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:16]


def _map_folder(classifier: ImageClassifier, folder: Path, note: Path, setting: str) -> HeatMapFolder:
    """Open the folder of heat maps; ``note`` says whose maps there are."""
    known = note.is_file() and note.read_text() == setting
    maps = HeatMapFolder(classifier, folder, known=known)
    note.write_text(setting)
    return maps


def _drawn(images: ImageFolder, kept: Parts, lookout: "Lookout | None") -> tuple[dict[str, int | None], frozenset[str]]:
    """The images that are looked at for the verdict on all, by path, and those of them whose row says nothing of it."""
    drawn = lookout.draw(images) if lookout else []
    rows = {image.path: kept.find(_key(images.root, image)) for image in drawn}
    known = [path for path, row in rows.items() if row is not None]
    numbers = np.array([rows[path] for path in known], np.int64)
    seen = [value for table in kept.tables(numbers, [OBSERVED]) for value in table[OBSERVED].notna()]
    unseen = frozenset(path for path, value in zip(known, seen, strict=True) if not value)
    return dict.fromkeys(rows), unseen


def _new_images(
    images: ImageFolder,
    kept: Parts,
    rows: "array[int]",
    sample: dict[str, int | None],
    *,
    again: Callable[[ImageFile], bool],
    advance: Callable[[], None],
) -> Iterator[_KeyedImage]:
    """The images that are to be scored.

    Into ``rows`` goes the number of the row of each image, kept ones too, and into ``sample`` that of those in it.
    """
    n_rows = len(kept)
    for image in images:
        key = _key(images.root, image)
        row = kept.find(key)
        is_new = row is None or again(image)
        rows.append(n_rows if is_new or row is None else row)
        if image.path in sample:
            sample[image.path] = rows[-1]
        if is_new:
            n_rows += 1
            yield _KeyedImage(image.path, image.link, key)
        advance()


def _key(root: Path, image: ImageFile) -> str:
    """Name an image's path, size and time of change in 32 hex digits; nothing for what must be looked at again."""
    if image.link:
        return ""
    try:
        found = os.stat(root / image.path)  # noqa: PTH116
    except OSError:
        return ""
    if not stat.S_ISREG(found.st_mode):
        return ""
    name = b"%d %d " % (found.st_size, found.st_mtime_ns) + os.fsencode(image.path)
    return hashlib.blake2b(name, digest_size=16).hexdigest()


def _judged(
    classifier: ImageClassifier,
    batch: Sequence[tuple[_KeyedImage, Prepared]],
    maps: HeatMapFolder | None,
    lookout: "Lookout | None",
    sample: Container[str],
) -> pd.DataFrame:
    found, prepared = [image for image, _ in batch], [image for _, image in batch]
    if lookout:
        judged = lookout.judge(prepared, [image.path in sample for image in found])
    else:
        judged = classifier.judge_batch(prepared).assign(**{OBSERVED: None})
    images = [image.name for image in found]
    if maps:
        maps.write(images, prepared, judged)
    keys = pd.Series([image.key for image in found], dtype="str").mask(judged["reason"].isin(_NOT_REMEMBERED), "")
    return judged.assign(image=pd.Series(images, dtype="str"), **{KEY: keys})


def _clear(parts: Path, setting: str, kept: Parts, rows: NDArray[np.int64], maps: HeatMapFolder | None) -> None:
    kept.remove_unused(rows)
    for folder in parts.iterdir():
        if folder.is_dir() and folder.name != setting:
            shutil.rmtree(folder, ignore_errors=True)
    if maps:
        maps.remove_others()
