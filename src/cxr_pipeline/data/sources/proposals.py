"""A proposal for the source and the classes of a new task, from its files."""

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd

from cxr_pipeline.common.errors import ImageRefused, UserError
from cxr_pipeline.data.images.decoding import decode
from cxr_pipeline.data.sources import LAYOUTS
from cxr_pipeline.data.sources.dicom_folder import SUFFIXES as DICOM_SUFFIXES
from cxr_pipeline.data.sources.folders import files_below, may_be_image
from cxr_pipeline.data.sources.label_table import TABLE_SUFFIXES
from cxr_pipeline.data.sources.label_tables import CELLS, Columns
from cxr_pipeline.data.sources.labels import fold
from cxr_pipeline.data.sources.listing import Listing, printable
from cxr_pipeline.data.sources.readers import Reader
from cxr_pipeline.data.sources.table_files import read_table

_ENDS = ("id", "nr", "no", "num", "number", "nummer", "")

# Names of columns, folded and without punctuation, the most specific first.
_COLUMNS = {
    "labels": (
        *("findinglabels", "labels", "label", "findings", "finding", "diagnosis", "classes", "class", "category"),
        *("disease", "pathology", "target"),
    ),
    "patient_id": (
        *(f"{word}{end}" for word in ("patient", "patienten", "subject", "pat", "case") for end in _ENDS),
        *("mrn", "pid"),
    ),
    "view": ("viewposition", "view", "projection"),
    "age": ("age", "patientage"),
    "sex": ("sex", "gender", "patientsex", "patientgender"),
    "split": ("split", "subset", "partition", "part"),
}
_UID_COLUMNS = ("sopinstanceuid", "instanceuid", "imageuid", "uid")
_SEPARATORS = "|;,"
# A patient is as in Kermany's images, or a number at the beginning of the file name, perhaps after a word, or all
# before the last number.
_KERMANY = r"^(person\d+)_|^((?:NORMAL2-)?IM-\d+)-"
_PATIENTS = (_KERMANY, r"^([A-Za-z]*\d+)[_-]", r"^([A-Za-z]+[_-]\d+)[_-]", r"^(.+)[_-]\d+\.")
_MAX_SUBFOLDERS = 15  # more are rather patients than classes
_MAX_SHARE_OF_A_PATIENT = 0.2
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
    for proposal in _proposals(place, place if place.is_dir() else folder or place.parent):
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


def _proposals(place: Path, folder: Path) -> Iterator[Proposal | str]:
    """Yield proposals, and the reasons why a table or folder cannot be used."""
    is_folder = place.is_dir()
    patients: list[dict[str, str]] = [{}, {"patient_id": "patient"}, {"patient_id": "patient_id"}]
    layouts = [("medmnist", {}), *(("pixel_table", each) for each in patients)]
    for layout, options in [*layouts, *([("nih", {}), ("chexpert", {})] if is_folder else [])]:
        if isinstance(proposal := _read(layout, place, **options), Proposal):
            yield proposal
    tables = [path for path in files_below(place) if path.lower().endswith(TABLE_SUFFIXES)] if is_folder else [""]
    yield from (_of_table(place / path, folder) for path in tables if "/" not in path)
    if is_folder:
        yield from _of_class_folders(place, [path for path in tables if "/" in path])


def _of_class_folders(folder: Path, tables: Sequence[str]) -> Iterator[Proposal | str]:
    """Yield a proposal for class folders, with notes if the classes may be one level below or in one of the tables."""
    proposal = _read("class_folders", folder)
    if not isinstance(proposal, Proposal):
        return
    images = proposal.listing.images
    subfolders: dict[str, set[str]] = {}
    for path in images.loc[images["given_split"].isna(), "path"]:
        name, *below, _ = path.split("/")
        subfolders.setdefault(name, set()).add("".join(below[:1]))
    notes = [
        f"{name}/ has the subfolders {', '.join(sorted(below))}. If those are the classes: --folder {folder / name}"
        for name, below in subfolders.items()
        if 1 < len(below) <= _MAX_SUBFOLDERS and "" not in below
    ]
    notes += [f"{path} may be a label table. If it is: --table {folder / path}" for path in tables[:3]]
    if len(set(images["labels"])) > 1:
        proposal = _with_patients(proposal, folder)
        yield replace(proposal, notes=(*notes, *proposal.notes))
    elif notes:
        yield " ".join([f"{printable(str(folder))} has images in one folder only.", *notes])


def _read(layout: str, path: Path, **options: Any) -> Proposal | str | None:
    """Return a proposal if the layout finds images, None if it finds none, or the reason why it cannot be read."""
    columns = {"columns": Columns(**options["columns"])} if "columns" in options else {}
    try:
        listing = LAYOUTS[layout].read(path, **options | columns)
    except UserError as error:
        return str(error)
    if listing.images.empty:
        return None
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
                ends = found.listing.images[["image", "patient_id"]].iloc[[0, -1]].to_numpy()
                note = (
                    f"patient_id is a guess: {pattern} finds {len(counts):,} patients with at most {counts.iloc[0]:,} "
                    f"images ({', '.join(f'{posixpath.basename(image)} -> {patient}' for image, patient in ends)}). "
                    "Images of one patient must not get into different splits."
                )
                return replace(found, notes=(note,))
    note = (
        "the file names do not seem to have a patient. If the patients are known, set patient_id to a regular "
        "expression, or use a label table with a column of patients."
    )
    return replace(proposal, source={**proposal.source, "patient_id": "none"}, notes=(note,))


def _of_table(table: Path, folder: Path) -> Proposal | str:
    """Return a proposal for a label table, or the reason why it cannot be used."""
    images = {_stem(path): path for path in files_below(folder) if may_be_image(path)}
    try:
        cells = read_table(table, None)
        columns, notes = _guess_columns(cells, images)
    except UserError as error:
        return f"{printable(str(table))}: {error}"
    inside = table.absolute().is_relative_to(folder.absolute())
    path = table.absolute().relative_to(folder.absolute()) if inside else table.absolute()
    is_dicom = any(path.lower().endswith(DICOM_SUFFIXES) for path in images.values())
    found = _read("dicom_folder" if is_dicom else "label_table", folder, table=path.as_posix(), columns=columns)
    if isinstance(found, Proposal) and found.listing.images["patient_id"].isna().all():
        rest = [name for name in cells if name not in Columns(**columns).names]
        counts = {name: n for name in rest if len(cells) / 5 < (n := cells[name].nunique()) < len(cells)}
        name = next(iter(counts), None)
        it = f"it is {name} ({counts[name]:,} values in {len(cells):,} rows)" if name else "the table has one"
        notes.append(f"no column of patients was recognised. If {it}, add to columns: {{patient_id: {name or 'NAME'}}}")
    if found is None:
        text = next((text for text in cells[columns["image"]].dropna() if _stem(text) in images), "")
        example = f"has {text}, the folder has {images[_stem(text)]}" if text else "names no image in the folder"
        return f"{printable(str(table))}: {columns['image']} {example}. Correct the table, or the folder: --folder DIR"
    return replace(found, notes=tuple(notes)) if isinstance(found, Proposal) else found


def _stem(path: str) -> str:
    """Return the name of a file without folders and suffix. ``1.2.840`` has no suffix."""
    return re.sub(r"\.[a-z]\w*$", "", posixpath.basename(path.replace("\\", "/")).casefold())


def _guess_columns(cells: pd.DataFrame, images: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """Return the option ``columns`` of a label table for the images with these stems, and what has to be checked.

    Raises:
        UserError: no column names images, or none has labels.
    """
    if cells.empty or not images:
        raise UserError("it has no rows." if cells.empty else "there are no images. Give their folder: --folder DIR")
    header = list(map(str, cells))
    n_named = {name: sum(_stem(text) in images for text in cells[name].dropna().unique()) for name in header}
    image = max(header, key=lambda name: (n_named[name], fold(name) in _UID_COLUMNS), default="")
    if not n_named.get(image) and fold(image) not in _UID_COLUMNS:
        raise UserError(
            f"none of its columns ({', '.join(header[:8])}) names the images below the folder, such as "
            f"{next(iter(images.values()))}. Correct the table, or give the folder of the images: --folder DIR"
        )
    columns: dict[str, Any] = {"image": image}
    others = {re.sub(r"\W", "", fold(name)): name for name in header if name != image}
    yes_no = {name for name in header if set(cells[name].dropna().str.lower()) <= CELLS.keys()}
    for part, spellings in _COLUMNS.items():
        found_names = [others[spelling] for spelling in spellings if spelling in others]
        # A column "case" may be a label.
        if found_names and not (part == "patient_id" and found_names[0] in yes_no):
            columns[part] = found_names[0]
    rest = [name for name in others.values() if name not in columns.values() and cells[name].notna().any()]
    notes = []
    if "labels" in columns:
        texts = cells[columns["labels"]]
        sign = next((sign for sign in _SEPARATORS if texts.str.contains(sign, regex=False).any()), "|")
        columns |= {} if sign == "|" else {"separator": sign}
        unused = f"; not used: {', '.join(rest)}" if rest else ""
        notes.append(f"the labels are those of the column {columns['labels']}{unused}.")
    elif one_hot := [name for name in rest if name in yes_no]:
        columns["one_hot"] = one_hot
        if cells[one_hot].isna().any(axis=None):
            notes.append("some cells of the labels are empty. If that means no finding, set blank: negative.")
    else:
        raise UserError(
            f"no column of labels was recognised among {', '.join(header)}. Rename it to label, or write the block of "
            "the task by hand, as docs/guides/layouts.md describes."
        )
    return columns, notes
