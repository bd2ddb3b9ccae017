"""A proposal for the source and the classes of a new task, from its files."""

import posixpath
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd

from cxr_pipeline.common.errors import ImageRefused, UserError
from cxr_pipeline.data.images.decoding import decode
from cxr_pipeline.data.sources import LAYOUTS
from cxr_pipeline.data.sources.dicom_folder import SUFFIXES as DICOM_SUFFIXES
from cxr_pipeline.data.sources.folders import files_below, may_be_image
from cxr_pipeline.data.sources.label_tables import CELLS, Columns
from cxr_pipeline.data.sources.labels import fold, is_normal, resembles
from cxr_pipeline.data.sources.listing import Listing, printable
from cxr_pipeline.data.sources.readers import Reader
from cxr_pipeline.data.sources.table_files import read_table

_TABLE_SUFFIXES = (".csv", ".csv.gz", ".parquet", ".pq")

# Names of columns, as folded, the most specific first.
_COLUMNS = {
    "labels": (
        *("findinglabels", "labels", "label", "findings", "finding", "diagnosis", "classes", "class", "category"),
        *("disease", "pathology", "target"),
    ),
    "patient_id": ("patientid", "patient", "subjectid", "subject", "caseid"),
    "view": ("viewposition", "view", "projection"),
    "age": ("age", "patientage"),
    "sex": ("sex", "gender", "patientsex", "patientgender"),
    "split": ("split", "subset", "partition", "part"),
}
_UID_COLUMNS = ("sopinstanceuid", "instanceuid", "imageuid", "uid")
_SEPARATORS = "|;,"
# A patient is a number at the beginning of the file name, perhaps after a word, or all before the last number.
_PATIENTS = (r"^([A-Za-z]*\d+)[_-]", r"^([A-Za-z]+[_-]\d+)[_-]", r"^(.+)[_-]\d+\.")
_MAX_SHARE_OF_A_PATIENT = 0.2
_MAX_SHARE_OF_A_MISSPELLING = 0.05
_N_DECODED = 50


@dataclass(frozen=True)
class Proposal:
    """The parameters of a source, its images, and what could not be known from the files."""

    source: Mapping[str, Any]
    listing: Listing
    notes: tuple[str, ...] = ()


def propose_source(place: Path, *, folder: Path | None = None) -> Proposal:
    """Propose a layout and its options.

    Args:
        place: folder of the images, or file with all of them, or label table.
        folder: folder of the images of a label table; by default that of the table.

    Raises:
        UserError: no layout finds images with labels.
    """
    if not place.exists():
        raise UserError(f"There is no folder or file {place}. Give the folder of the images, or their label table.")
    faults = []
    for proposal in _of_folder(place) if place.is_dir() else _of_file(place, folder or place.parent):
        if isinstance(proposal, Proposal):
            return proposal
        faults.append(proposal)
    if faults:
        raise UserError(" ".join(faults))
    n_images = sum(map(may_be_image, files_below(place)))
    raise UserError(
        f"{printable(str(place))} has {n_images} images, and no labels. Expected images in a folder for each class "
        "(such as effusion/ and normal/), a label table (--table FILE), or a layout of docs/guides/layouts.md."
    )


def propose_classes(labels: "pd.Series[str]") -> tuple[str, dict[str, list[str]], list[str]]:
    """Return the kind of task for the labels of images, joined by ``|``, the labels of each class, and what to check.

    Example:
        >>> propose_classes(pd.Series(["Mass", "normal", "Normal", "normal"]))
        ('binary', {'normal': ['normal', 'Normal'], 'Mass': ['Mass']}, [])
    """
    of_images = [text.split("|") for text in labels.dropna()]
    spellings = Counter(name for names in of_images for name in names if name)
    # A run compares labels as folded. A class is named by the most frequent spelling.
    same: dict[str, list[str]] = {}
    for name, _ in spellings.most_common():
        same.setdefault(fold(name), []).append(name)
    counts = {names[0]: sum(map(spellings.__getitem__, names)) for names in same.values()}
    names = sorted(counts, key=lambda name: (not is_normal(name), int(name) if name.isdecimal() else -counts[name]))
    several = any(len(set(map(fold, found))) > 1 for found in of_images)
    kind = "multilabel" if several or len(names) == 1 else "binary" if len(names) == 2 else "multiclass"
    classes: dict[str, list[str]] = {}
    for name in names:
        # An image with a label for normal images is negative for all classes of a multi-label task.
        if kind != "multilabel" or not is_normal(name):
            cleaned = re.sub(r"[^A-Za-z0-9_ -]+", "_", name).strip("_ ")
            classes.setdefault(cleaned if cleaned[:1].isalpha() else f"class_{cleaned}", []).extend(same[fold(name)])
    if not classes:
        raise UserError("No image has a finding as its label. Expected labels of two kinds or more.")
    return kind, classes, _check_classes(kind, classes, counts, n_images=len(of_images))


def _check_classes(
    kind: str, classes: Mapping[str, Sequence[str]], counts: Mapping[str, int], *, n_images: int
) -> list[str]:
    """Return what has to be checked, given the number of images with the first label of each class."""
    of_class = {name: counts[labels[0]] for name, labels in classes.items()}
    notes = []
    if len(counts) == 1:
        notes.append(
            f"{next(iter(counts))} is the only label: {sum(counts.values()):,} of {n_images:,} images have it. A task "
            "needs images without it, too."
        )
    elif kind == "binary" and not any(map(is_normal, counts)):
        notes.append(f"no class was recognised as the normal one. The last, {list(classes)[-1]}, is the positive one.")
    for name, rare in combinations(sorted(of_class, key=lambda name: -of_class[name]), 2):
        one, other = classes[name][0], classes[rare][0]
        is_rare = of_class[rare] <= _MAX_SHARE_OF_A_MISSPELLING * of_class[name]
        if resembles(other, one) and (is_rare or (is_normal(one) and is_normal(other))):
            notes.append(
                f"is {rare} (images: {of_class[rare]:,}) another spelling of {name}? Then move it to the labels of "
                f"{name}, and remove its own line{' (the kind is then binary)' * (len(classes) == 3)}."
            )
    return notes


def sides_of(paths: "pd.Series[str]", reader: Reader) -> list[int]:
    """Return the length of the shorter side of some images in pixels, of as many as can be decoded."""
    sides = []
    for path in paths.sample(min(_N_DECODED, len(paths)), random_state=0):
        with suppress(ImageRefused):
            sides.append(min(decode(reader.read(path), max_megapixels=100).shape))
    return sides


def size_for(sides: Sequence[int]) -> int | None:
    """Return the size of prepared images if it should be smaller than the default of 224 pixels, otherwise None."""
    side = median(sides) if sides else 224
    # The backbones reduce an image to a 32nd of its size: below 112 pixels, too little is left.
    return None if side >= 208 else max(112, round(side / 32) * 32)


def _is_table(file: Path) -> bool:
    return file.is_file() and file.name.casefold().endswith(_TABLE_SUFFIXES)


def _of_folder(folder: Path) -> Iterator[Proposal | str]:
    """Yield proposals for a folder, and the reasons why a table in it cannot be read."""
    yield from _of_container(folder)
    for layout in ("nih", "chexpert"):
        if isinstance(proposal := _read(layout, folder), Proposal):
            yield proposal
    for table in sorted(filter(_is_table, folder.iterdir())):
        yield _of_table(table, folder)
    proposal = _read("class_folders", folder)
    if isinstance(proposal, Proposal) and len(set(proposal.listing.images["labels"])) > 1:
        yield _with_patients(proposal, folder)


def _of_file(file: Path, folder: Path) -> Iterator[Proposal | str]:
    yield from _of_container(file)
    yield _of_table(file, folder)


def _of_container(place: Path) -> Iterator[Proposal]:
    patients: list[dict[str, str]] = [{}, {"patient_id": "patient"}, {"patient_id": "patient_id"}]
    for layout, options in [("medmnist", {}), *(("pixel_table", each) for each in patients)]:
        if isinstance(proposal := _read(layout, place, **options), Proposal):
            yield proposal


def _read(layout: str, path: Path, **options: Any) -> Proposal | str:
    """Return a proposal if the layout finds images, otherwise the reason why it does not."""
    columns = {"columns": Columns(**options["columns"])} if "columns" in options else {}
    try:
        listing = LAYOUTS[layout].read(path, **options | columns)
    except UserError as error:
        return str(error)
    if listing.images.empty:
        return f"{printable(str(path))} has no images in the layout {layout}."
    return Proposal({"layout": layout, "path": path.absolute().as_posix(), **options}, listing)


def _with_patients(proposal: Proposal, folder: Path) -> Proposal:
    """Add the first pattern that finds patients with several images in the names of the files."""
    for pattern in _PATIENTS:
        found = _read("class_folders", folder, patient_id=pattern)
        if isinstance(found, Proposal):
            patients = found.listing.images["patient_id"]
            counts = patients.value_counts()
            most = max(2, _MAX_SHARE_OF_A_PATIENT * len(patients))
            if patients.notna().all() and 1 < len(counts) < len(patients) and counts.iloc[0] <= most:
                note = (
                    f"patient_id is a guess: {pattern} finds {len(counts):,} patients with at most {counts.iloc[0]:,} "
                    "images. Images of one patient must not get into different splits."
                )
                return replace(found, notes=(note,))
    note = (
        "the file names do not seem to have a patient. If the patients are known, set patient_id to a regular "
        "expression, or use a label table with a column of patients."
    )
    return replace(proposal, source={**proposal.source, "patient_id": "none"}, notes=(note,))


def _of_table(table: Path, folder: Path) -> Proposal | str:
    """Return a proposal for a label table, or the reason why it cannot be used."""
    images = [path for path in files_below(folder) if may_be_image(path)]
    try:
        columns, notes = _guess_columns(read_table(table, None), _names_of(images, folder))
    except UserError as error:
        return f"{printable(str(table))}: {error}"
    inside = table.absolute().is_relative_to(folder.absolute())
    path = table.absolute().relative_to(folder.absolute()) if inside else table.absolute()
    is_dicom = any(path.lower().endswith(DICOM_SUFFIXES) for path in images)
    found = _read("dicom_folder" if is_dicom else "label_table", folder, table=path.as_posix(), columns=columns)
    if isinstance(found, Proposal) and found.listing.images["patient_id"].isna().all():
        notes.append("no column of patients was recognised. If the table has one, set columns.patient_id.")
    return replace(found, notes=tuple(notes)) if isinstance(found, Proposal) else found


def _names_of(images: Sequence[str], folder: Path) -> set[str]:
    """Return the names by which a table may identify images: paths and file names, with and without suffix."""
    paths = {*images, *(f"{folder.absolute().as_posix()}/{path}" for path in images)}
    paths |= {posixpath.splitext(path)[0] for path in paths}
    return paths | {posixpath.basename(path) for path in paths}


def _guess_columns(cells: pd.DataFrame, names: Set[str]) -> tuple[dict[str, Any], list[str]]:
    """Return the option ``columns`` of a label table, and what has to be checked.

    Raises:
        UserError: no column names images, or none has labels.
    """
    header = list(map(str, cells))
    paths = {name: cells[name].str.replace("\\", "/").str.removeprefix("./") for name in header}
    n_named = {name: int(paths[name].isin(names).sum()) for name in header}
    image = max(header, key=lambda name: (n_named[name], fold(name) in _UID_COLUMNS), default="")
    if not n_named.get(image) and fold(image) not in _UID_COLUMNS:
        raise UserError(
            f"none of its columns ({', '.join(header[:8])}) names the images below the folder. Expected "
            "paths or file names. Give the folder of the images: --folder DIR"
        )
    columns: dict[str, Any] = {"image": image}
    others = {fold(name): name for name in header if name != image}
    for part, spellings in _COLUMNS.items():
        if found_names := [others[spelling] for spelling in spellings if spelling in others]:
            columns[part] = found_names[0]
    rest = [name for name in others.values() if name not in columns.values() and cells[name].notna().any()]
    notes = []
    if "labels" in columns:
        texts = cells[columns["labels"]]
        sign = next((sign for sign in _SEPARATORS if texts.str.contains(sign, regex=False).any()), "|")
        columns |= {} if sign == "|" else {"separator": sign}
        notes.append(f"the labels are those of the column {columns['labels']}; not used: {', '.join(rest) or 'none'}.")
    elif one_hot := [name for name in rest if set(cells[name].dropna().str.lower()) <= CELLS.keys()]:
        columns["one_hot"] = one_hot
        if cells[one_hot].isna().any(axis=None):
            notes.append("some cells of the labels are empty. If that means no finding, set blank: negative.")
    else:
        raise UserError(
            f"no column of labels was recognised among {', '.join(header)}. Rename it to label, or write the block of "
            "the task by hand, as docs/guides/layouts.md describes."
        )
    return columns, notes
