"""A dataset of phantoms, written in the format of NIH ChestX-ray14."""

import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from statistics import NormalDist
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr_pipeline.common.errors import UserError, did_you_mean
from cxr_pipeline.common.progress import track
from cxr_pipeline.data.phantoms.chest import Anatomy
from cxr_pipeline.data.phantoms.radiograph import FINDINGS, Box, draw_radiograph

LABELS_FILE = "Data_Entry_2017_phantoms.csv"
BOXES_FILE = "BBox_List_2017.csv"

# NIH's headers have unquoted commas inside brackets, and the box list ends with three empty columns.
_LABELS_HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
_BOXES_HEADER = "Image Index,Finding Label,Bbox [x,y,w,h],,,"
# NIH gives boxes in pixels of its images, which have this size.
_NIH_SIZE = 1024
_RADIOGRAPH_MM = 430
_MAX_IMAGES = 4
# Correlation between the images of a patient of the variable that decides whether a finding is present.
_WITHIN_PATIENT = 0.6
_LEFTOVER_SECONDS = 3600


@dataclass(frozen=True)
class PhantomImage:
    """One image of the dataset, uint8 [size, size]; ``follow_up`` is its number, 0 for the first of the patient."""

    name: str
    pixels: NDArray[np.uint8]
    labels: tuple[str, ...]
    boxes: tuple[Box, ...]
    follow_up: int
    patient: int
    age: int
    sex: str
    view: str


def write_release(folder: Path, *, n_patients: int, size: int, prevalence: Mapping[str, float], seed: int) -> None:
    """Draw phantoms and write them as a dataset in the format of NIH ChestX-ray14.

    ``folder`` gets 8-bit grey images in ``images/``, ``Data_Entry_2017_phantoms.csv`` and ``BBox_List_2017.csv``. An
    earlier dataset is replaced only when the new one is complete. Each patient has one to four images of at least
    32 x 32 pixels, which depend on the patient's number, ``size``, ``seed`` and ``prevalence`` (the expected fraction
    of images that show each finding) only, so a dataset with more patients contains the smaller one.
    """
    for finding in prevalence.keys() - FINDINGS.keys():
        hint = did_you_mean(finding, FINDINGS, shown="'{}'")
        raise UserError(f"Unknown finding {finding!r} in `prevalence`.{hint} Expected: {', '.join(FINDINGS)}.")
    if folder.exists() and not (folder / LABELS_FILE).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(
            f"{folder} contains files other than phantoms (it has no {LABELS_FILE}) and is left unchanged. "
            "Set the `path` of the source to a separate folder."
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    for leftover in folder.parent.glob(f".{folder.name}-*"):
        if leftover.stat().st_mtime < time.time() - _LEFTOVER_SECONDS:
            shutil.rmtree(leftover, ignore_errors=True)
    with TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent, ignore_cleanup_errors=True) as temporary:
        new = Path(temporary, "new")
        (new / "images").mkdir(parents=True)
        patients = track(range(1, n_patients + 1), "Drawing phantoms", n_patients)
        draw = partial(draw_patient, size=size, prevalence=prevalence, seed=seed)
        _write_images(new, chain.from_iterable(map(draw, patients)), size)
        if folder.exists():
            folder.rename(Path(temporary, "old"))
        new.rename(folder)


def draw_patient(patient: int, *, size: int, prevalence: Mapping[str, float], seed: int) -> Iterator[PhantomImage]:
    """Draw the one to four images of a patient, numbered from 1, in the order of their dates.

    Example:
        >>> image = next(draw_patient(1, size=64, prevalence={"Effusion": 1.0}, seed=0))
        >>> image.name, image.pixels.shape, image.labels
        ('00000001_000.png', (64, 64), ('Effusion',))
    """
    rng = np.random.default_rng([seed, patient])
    sex = "F" if rng.random() < 0.46 else "M"
    age = int(np.clip(rng.normal(47, 16), 4, 90))
    anatomy = Anatomy(rng, sex=sex)
    susceptibility = rng.standard_normal(len(FINDINGS))
    for follow_up in range(int(rng.integers(1, _MAX_IMAGES + 1))):
        current = rng.standard_normal(len(FINDINGS))
        scores = np.sqrt(_WITHIN_PATIENT) * susceptibility + np.sqrt(1 - _WITHIN_PATIENT) * current
        # The scores are standard normal, so that each finding has its prevalence.
        shares = zip(FINDINGS, map(NormalDist().cdf, scores), strict=True)
        labels = tuple(finding for finding, share in shares if share < prevalence.get(finding, 0))
        view = "AP" if rng.random() < 0.35 else "PA"
        pixels, boxes = draw_radiograph(rng, size=size, anatomy=anatomy, findings=labels, view=view)
        name = f"{patient:08d}_{follow_up:03d}.png"
        yield PhantomImage(name, pixels, labels, tuple(boxes), follow_up, patient, age, sex, view)
        age += int(rng.integers(0, 3))


def _write_images(folder: Path, images: Iterator[PhantomImage], size: int) -> None:
    rows: list[tuple[object, ...]] = []
    boxes: list[tuple[object, ...]] = []
    spacing, scale = round(_RADIOGRAPH_MM / size, 4), _NIH_SIZE / size
    for image in images:
        png = cv2.imencode(".png", image.pixels, (cv2.IMWRITE_PNG_COMPRESSION, 1))[1]
        (folder / "images" / image.name).write_bytes(png.tobytes())
        labels = "|".join(image.labels) or "No Finding"
        patient = (image.follow_up, image.patient, image.age, image.sex, image.view)
        rows.append((image.name, labels, *patient, size, size, spacing, spacing))
        for box in image.boxes:
            sides = (round(side * scale, 3) for side in (box.x, box.y, box.width, box.height))
            boxes.append((image.name, box.finding, *sides, "", "", ""))
    for file, header, lines in ((LABELS_FILE, _LABELS_HEADER, rows), (BOXES_FILE, _BOXES_HEADER, boxes)):
        table = pd.DataFrame(lines).to_csv(index=False, header=False, lineterminator="\n") if lines else ""
        (folder / file).write_text(f"{header}\n{table}", encoding="utf-8")
