"""Phantoms as a release of NIH ChestX-ray14: images, label table, box list."""

import difflib
import os
import platform
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.progress import track

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.phantoms.anatomy import draw_anatomy
from cxr_pipeline.data.phantoms.findings import FINDINGS, Box
from cxr_pipeline.data.phantoms.image import draw_image

TABLE = "Data_Entry_2017_phantoms.csv"
BOXES = "BBox_List_2017.csv"
IMAGES = "images"
NO_FINDING = "No Finding"

# NIH's headers have unquoted commas inside their brackets, and the box list has three empty columns at its end.
_TABLE_HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
_BOX_HEADER = "Image Index,Finding Label,Bbox [x,y,w,h],,,"
_BOX_FRAME = 1024
_IMAGE_MM = 430
_MOST_IMAGES = 4
_SAME_PATIENT = 0.6
_FAST_PNG = (cv2.IMWRITE_PNG_COMPRESSION, 1)


@dataclass(frozen=True)
class PhantomImage:
    """One image of a release.

    Args:
        image: file name, such as ``00000001_000.png``.
        pixels: uint8 [size, size].
        labels: names of the findings, empty for none.
        boxes: in pixels of the image.
        follow_up: number of the image, 0 for the patient's first.
        patient: number of the patient, from 1.
        age: in years.
        sex: ``"F"`` or ``"M"``.
        view: ``"PA"`` or ``"AP"``.
    """

    image: str
    pixels: NDArray[np.uint8]
    labels: tuple[str, ...]
    boxes: tuple[Box, ...]
    follow_up: int
    patient: int
    age: int
    sex: str
    view: str


def write_release(folder: Path, *, n_patients: int, size: int, prevalence: Mapping[str, float], seed: int) -> None:
    """Draw phantoms and write them as a release of NIH ChestX-ray14.

    ``folder`` gets ``images/00000001_000.png`` and so on (8-bit grey), ``Data_Entry_2017_phantoms.csv`` with NIH's
    columns and ``BBox_List_2017.csv`` with boxes in NIH's frame of 1024 px. Everything is written beside ``folder``
    and renamed when complete; an earlier release is replaced only then. A patient's images depend on the seed, the
    patient's number, size and prevalence alone, so that more patients leave the earlier ones as they are.

    Args:
        folder: where the release shall be.
        n_patients: patients to draw, 1 or more; each has one to four images.
        size: side of an image in pixels, 32 or more.
        prevalence: for each finding in ``FINDINGS``, the expected fraction of images that show it, 0 to 1; those not
            named are never shown.
        seed: 0 or more; the same seed gives the same bytes.

    Raises:
        UserError: a finding is unknown, a number is impossible, or ``folder`` holds something else than phantoms.
    """
    _check(folder, n_patients=n_patients, size=size, prevalence=prevalence)
    folder.parent.mkdir(parents=True, exist_ok=True)
    _clear_leftovers(folder)
    beside = folder.with_name(f".{folder.name}.{platform.node()}-{os.getpid()}.partial")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        (beside / IMAGES).mkdir(parents=True)
        _write_images(beside, n_patients=n_patients, size=size, prevalence=prevalence, seed=seed)
        _put_in_place(beside, folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def draw_patient(patient: int, *, size: int, prevalence: Mapping[str, float], seed: int) -> Iterator[PhantomImage]:
    """Draw the one to four images of a patient.

    Args:
        patient: number of the patient, from 1.
        size: side of an image in pixels.
        prevalence: for each finding, the expected fraction of images that show it.
        seed: of the release.

    Yields:
        The images in the order in which they were taken.
    """
    rng = np.random.default_rng([seed, patient])
    sex = "F" if rng.random() < 0.46 else "M"
    age = int(np.clip(rng.normal(47, 16), 4, 90))
    anatomy = draw_anatomy(rng, sex=sex)
    proneness = rng.standard_normal(len(FINDINGS))
    for follow_up in range(int(rng.integers(1, _MOST_IMAGES + 1))):
        labels = _labels(rng, proneness, prevalence)
        view = "AP" if rng.random() < 0.35 else "PA"
        pixels, boxes = draw_image(rng, size=size, anatomy=anatomy, findings=labels, view=view)
        image = f"{patient:08d}_{follow_up:03d}.png"
        yield PhantomImage(image, pixels, labels, tuple(boxes), follow_up, patient, age, sex, view)
        age += int(rng.integers(0, 3))


def _labels(
    rng: np.random.Generator, proneness: NDArray[np.float64], prevalence: Mapping[str, float]
) -> tuple[str, ...]:
    """Findings of one image: as often as asked over all images, and more alike within a patient."""
    today = rng.standard_normal(len(FINDINGS))
    scores = np.sqrt(_SAME_PATIENT) * proneness + np.sqrt(1 - _SAME_PATIENT) * today
    return tuple(
        finding
        for finding, score in zip(FINDINGS, scores, strict=True)
        if NormalDist().cdf(score) < prevalence.get(finding, 0.0)
    )


def _check(folder: Path, *, n_patients: int, size: int, prevalence: Mapping[str, float]) -> None:
    for finding, fraction in prevalence.items():
        if finding not in FINDINGS:
            close = difflib.get_close_matches(finding, FINDINGS, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise UserError(
                f"Phantoms cannot show {finding!r}{hint} Expected in `prevalence` any of: {', '.join(FINDINGS)}."
            )
        if not 0 <= fraction <= 1:
            raise UserError(f"The prevalence of {finding} must lie between 0 and 1, found {fraction}.")
    if n_patients < 1:
        raise UserError(f"`n_patients` must be 1 or more, found {n_patients}.")
    if size < 32:
        raise UserError(f"`size` of a phantom image must be 32 px or more, found {size}.")
    if folder.exists() and not (folder / TABLE).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(
            f"{folder} holds something else than phantoms (there is no {TABLE} in it) and is left as it is. "
            "Give the phantoms a folder of their own: set the `path` of the source."
        )


def _write_images(folder: Path, *, n_patients: int, size: int, prevalence: Mapping[str, float], seed: int) -> None:
    rows: list[tuple[object, ...]] = []
    boxes: list[tuple[object, ...]] = []
    spacing = round(_IMAGE_MM / size, 4)
    for patient in track(range(1, n_patients + 1), description="Drawing phantoms", transient=True):
        for image in draw_patient(patient, size=size, prevalence=prevalence, seed=seed):
            _, png = cv2.imencode(".png", image.pixels, _FAST_PNG)
            (folder / IMAGES / image.image).write_bytes(png.tobytes())
            labels = "|".join(image.labels) or NO_FINDING
            taken = (image.follow_up, patient, image.age, image.sex, image.view)
            rows.append((image.image, labels, *taken, size, size, spacing, spacing))
            boxes.extend(_box_rows(image, _BOX_FRAME / size))
    _write_table(folder / TABLE, _TABLE_HEADER, rows)
    _write_table(folder / BOXES, _BOX_HEADER, boxes)


def _box_rows(image: PhantomImage, scale: float) -> list[tuple[object, ...]]:
    return [
        (
            image.image,
            box.finding,
            *(round(side * scale, 3) for side in (box.x, box.y, box.width, box.height)),
            *3 * ("",),
        )
        for box in image.boxes
    ]


def _write_table(path: Path, header: str, rows: list[tuple[object, ...]]) -> None:
    lines = pd.DataFrame(rows).to_csv(index=False, header=False, lineterminator="\n") if rows else ""
    path.write_text(f"{header}\n{lines}", encoding="utf-8")


def _put_in_place(beside: Path, folder: Path) -> None:
    earlier = beside.with_suffix(".earlier")
    if folder.exists():
        folder.rename(earlier)
    beside.rename(folder)
    shutil.rmtree(earlier, ignore_errors=True)


def _clear_leftovers(folder: Path) -> None:
    """Remove what runs that were killed on this machine have left beside ``folder``."""
    name = re.compile(rf"\.{re.escape(f'{folder.name}.{platform.node()}')}-(\d+)\.(partial|earlier)")
    for path in folder.parent.iterdir():
        found = name.fullmatch(path.name)
        if found and not _runs(int(found[1])):
            shutil.rmtree(path, ignore_errors=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
