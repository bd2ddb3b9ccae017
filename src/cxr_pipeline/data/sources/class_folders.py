"""Layout ``class_folders``: a folder per class, with or without ``train/``, ``val/``, ``test/`` above them."""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pandas as pd

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.sources.listing import Listing, image_table, printable, refusal_table
from cxr_pipeline.data.sources.readers import FileReader

EXPECTED = "one folder per class ({labels}) with images in it"

SPLIT_FOLDERS = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}
_LITTER = ("thumbs.db", "desktop.ini", "__macosx")


def read(
    folder: Path, *, patient_id: str, given_splits: Mapping[str, str] | None = None, patients_within_split: bool = False
) -> Listing:
    """List the images of every class folder below ``folder``.

    Each file below a class folder is a row, whatever its suffix: decoding decides whether it is an image. Hidden
    files and the litter of operating systems are no rows. Links to folders are not followed.

    Args:
        folder: the source's folder. A folder in it is a class, named by its label, unless it is called
            ``train``, ``val``, ``valid``, ``validation`` or ``test`` (in any case): then the folders in it are.
        patient_id: regular expression on the file name, whose first group that is not empty is the patient;
            or ``none``.
        given_splits: folders above the classes (in any case) whose images belong to another split than the folder's
            name says, or whose name says none: ``{"val": "train"}``.
        patients_within_split: the same patient in two splits is two patients: the source counts them anew in each.

    Raises:
        UserError: ``patient_id`` is no regular expression, has no group or fits no file name.
    """
    pattern = _compile(patient_id)
    split_folders = {**SPLIT_FOLDERS, **{name.casefold(): split for name, split in (given_splits or {}).items()}}
    refused: list[tuple[str, str, str]] = []
    rows: list[tuple[str, str, str | None]] = []
    n_linked = n_loose = 0
    for path, problem in _files(folder):
        given_split, label = _place(path, split_folders)
        if problem == _LINKED:
            n_linked += 1
        elif problem is not None:
            refused.append((printable(path), *problem))
        elif label is None:
            n_loose += 1
        elif printable(path) != path:
            refused.append((printable(path), "unreadable", "its name is not valid UTF-8"))
        else:
            rows.append((path, label, given_split))
    images = pd.DataFrame(rows, columns=["image", "labels", "given_split"], dtype="str")
    patients = pd.Series(_patients(images["image"], pattern), index=images.index, dtype="str")
    notes = _notes(n_loose, n_linked, n_unmatched=int(patients.isna().sum()) if pattern else 0)
    if patients_within_split:
        patients = (images["given_split"] + "/" + patients).fillna(patients)
    columns = {**images, "path": images["image"], "patient_id": patients}
    return Listing(image_table(columns), refusal_table(sorted(refused)), notes=notes)


def reader(folder: Path, **_: object) -> FileReader:
    """Give what reads the images that ``read`` lists."""
    return FileReader(folder)


def holds_images(folder: Path) -> bool:
    """Tell whether any file lies in a class folder; stops at the first."""
    return folder.is_dir() and any(_place(path, SPLIT_FOLDERS)[1] is not None for path, _ in _files(folder))


_LINKED = ("linked", "")


def _files(root: Path) -> Iterator[tuple[str, tuple[str, str] | None]]:
    """Walk through ``root``: the POSIX path of each file, and the reason and detail why it cannot be used."""
    real_root = root.resolve()
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        try:
            entries = sorted(os.scandir(root / folder), key=lambda entry: entry.name)
        except OSError as error:
            if not folder:
                raise UserError(f"no folder to read at {printable(str(root))}: {error.strerror or error}.") from error
            yield folder, ("unreadable", f"folder: {error.strerror or type(error).__name__}")
            continue
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            if entry.name.startswith(".") or entry.name.casefold() in _LITTER:
                continue
            if entry.is_dir(follow_symlinks=False):
                waiting.append(path)
            else:
                yield path, _link_problem(real_root, entry) if entry.is_symlink() else None


def _link_problem(root: Path, link: "os.DirEntry[str]") -> tuple[str, str] | None:
    target = Path(os.path.realpath(link.path))
    if not target.is_dir():
        return None
    if target.is_relative_to(root):
        return _LINKED
    return "outside_source", "a link to a folder outside the source's folder"


def _place(path: str, split_folders: Mapping[str, str]) -> tuple[str | None, str | None]:
    """Read the given split and the label from the folders above a file; no label, no row."""
    *folders, _ = path.split("/")
    given_split = split_folders.get(folders[0].casefold()) if folders else None
    above = folders[1:] if given_split else folders
    return given_split, above[0] if above else None


def _compile(patient_id: str) -> re.Pattern[str] | None:
    if patient_id == "none":
        return None
    expected = r"expected a regular expression with a group that is the patient, such as '^(\d+)_', or 'none'"
    try:
        pattern = re.compile(patient_id)
    except re.error as error:
        raise UserError(f"patient_id: {expected}; found '{patient_id}', which is none: {error}.") from error
    if not pattern.groups:
        raise UserError(f"patient_id: {expected}; found '{patient_id}', which has no group in parentheses.")
    return pattern


def _patients(images: "pd.Series[str]", pattern: re.Pattern[str] | None) -> list[str | None]:
    if pattern is None:
        return [None] * len(images)
    patients: list[str | None] = []
    for image in images:
        match = pattern.search(image.rpartition("/")[2])
        patients.append(next((group for group in match.groups() if group), None) if match else None)
    if patients and not any(patients):
        raise UserError(
            f"patient_id: '{pattern.pattern}' fits none of {len(patients)} file names, such as "
            f"'{images.iloc[0].rpartition('/')[2]}'. Mend it, or say that the patients are not known: 'none'."
        )
    return patients


def _notes(n_loose: int, n_linked: int, n_unmatched: int) -> tuple[str, ...]:
    notes = {
        f"Files that lie in no class folder and were not read: {n_loose}.": n_loose,
        f"Links to folders inside the source that were not followed: {n_linked}.": n_linked,
        f"Images whose name does not tell the patient, each taken for a patient of its own: {n_unmatched}.": n_unmatched,
    }
    return tuple(note for note, count in notes.items() if count)
