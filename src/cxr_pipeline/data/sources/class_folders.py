"""Layout ``class_folders``: a folder per class, with or without ``train/``, ``val/``, ``test/`` above them."""

import os
import posixpath
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import pandas as pd

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.sources.folders import files_and_links_below, may_be_image
from cxr_pipeline.data.sources.listing import SPLIT_NAMES, Listing, list_rows, printable

EXPECTED = "one folder per class ({labels}) with images in it"

_LINK = "a link to a folder outside the source; to read it, set the source's follow_links to true"


def read(
    folder: Path,
    *,
    patient_id: str = "none",
    given_splits: Mapping[str, Literal["train", "validation", "test"]] | None = None,
    patients_within_split: bool = False,
    follow_links: bool = False,
) -> Listing:
    """List the images of every class folder below ``folder``.

    A folder is a class, named by its label, unless its name is that of a split: then the folders in it are classes.
    Each file below a class folder that ends like an image or has no suffix is a row; other files are counted.

    Args:
        folder: folder of the source.
        patient_id: regular expression for the file name, whose first group is the patient; ``none`` if patients are
            unknown.
        given_splits: split of folders above the class folders, if it is not the one that their name suggests.
        patients_within_split: patient numbers start again in every split.
        follow_links: read links to folders, and images that are links out of the source's folder.

    Example:
        >>> (tmp_path / "ill").mkdir()
        >>> (tmp_path / "ill" / "p7_1.png").touch()
        >>> read(tmp_path, patient_id="^(p[0-9]+)_").images[["image", "labels", "patient_id"]].to_numpy().tolist()
        [['ill/p7_1.png', 'ill', 'p7']]
    """
    split_folders = {**SPLIT_NAMES, **{name.casefold(): split for name, split in (given_splits or {}).items()}}
    rows: list[dict[str, str | None]] = []
    n_linked = n_loose = 0
    others: Counter[str] = Counter()
    for path in files_and_links_below(folder, follow_links=follow_links):
        given_split, label = _split_and_label(path, split_folders)
        image = printable(path).rstrip("/")
        if path.endswith("/"):
            if Path(os.path.realpath(folder / path)).is_relative_to(folder.resolve()):
                n_linked += 1
            else:
                rows.append({"image": image, "reason": "outside_source", "detail": _LINK})
        elif label is None:
            n_loose += 1
        elif not may_be_image(path):
            others[Path(path).suffix.lower()] += 1
        elif image != path:
            rows.append({"image": image, "reason": "unreadable", "detail": "its name is not valid UTF-8"})
        else:
            rows.append({"image": image, "path": path, "labels": label, "given_split": given_split})
    table = pd.DataFrame(rows, columns=["image", "path", "labels", "given_split", "reason", "detail"], dtype="str")
    patients = _patients(table["path"].dropna(), patient_id)
    n_unmatched = int(patients.isna().sum()) if patient_id != "none" else 0
    if patients_within_split:
        patients = (table["given_split"] + "/" + patients).fillna(patients)
    counts = {
        "Files outside of class folders, which were not read": n_loose,
        f"Files in class folders that are not images ({', '.join(sorted(others))})": others.total(),
        "Links to folders inside the source, which were not followed (follow_links)": n_linked,
        "Images whose file name does not contain a patient, each treated as a separate patient": n_unmatched,
    }
    return list_rows(table.assign(patient_id=patients), counts=counts)


def holds_images(folder: Path) -> bool:
    """Return whether there may be an image, or a link to a folder, in a class folder; stops at the first."""
    paths = filter(may_be_image, files_and_links_below(folder))
    return any(_split_and_label(path, SPLIT_NAMES)[1] is not None for path in paths)


def _split_and_label(path: str, split_folders: Mapping[str, str]) -> tuple[str | None, str | None]:
    """Return the given split and the label from the folders above a file, None if there is none."""
    *folders, _ = path.split("/")
    given_split = split_folders.get(folders[0].casefold()) if folders else None
    classes = folders[1:] if given_split else folders
    return given_split, classes[0] if classes else None


def _patients(images: "pd.Series[str]", patient_id: str) -> "pd.Series[str]":
    if patient_id == "none":
        return pd.Series(None, images.index, dtype="str")
    names = images.map(posixpath.basename).astype("str")
    try:
        groups = names.str.extract(patient_id)
    except (re.error, ValueError) as error:
        raise UserError(
            "patient_id: expected a regular expression with a group in parentheses for the patient, such as "
            rf"'^(\d+)_', or 'none'; found '{patient_id}': {error}."
        ) from error
    patients = groups.replace("", None).bfill(axis="columns").iloc[:, 0]
    if len(patients) and patients.isna().all():
        raise UserError(
            f"patient_id: '{patient_id}' matches none of {len(names)} file names, such as '{names.iloc[0]}'. "
            "Fix it, or use 'none' if the patients are unknown."
        )
    return patients
