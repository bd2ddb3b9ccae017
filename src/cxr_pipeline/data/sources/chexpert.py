"""Layout ``chexpert``: a release of CheXpert (Irvin et al. 2019, https://arxiv.org/abs/1901.07031)."""

from pathlib import Path
from typing import Literal

import pandas as pd

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.sources.folders import files_below
from cxr_pipeline.data.sources.label_tables import NO_FINDING, Columns, locate, read_labels
from cxr_pipeline.data.sources.listing import Listing, list_rows, printable
from cxr_pipeline.data.sources.table_files import read_table

LABELS = (
    NO_FINDING,
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
)
EXPECTED = "a release of CheXpert: train.csv or valid.csv, and images below train/ or valid/"

_TABLES = {"train.csv": "train", "valid.csv": "validation", "test.csv": "test"}
_IMAGE, _FRONTAL, _VIEW = "Path", "Frontal/Lateral", "AP/PA"
_LATERAL = "LATERAL"


def read(
    folder: Path,
    *,
    blank: Literal["negative", "unknown"] = "negative",
    frontal_only: bool = True,
    follow_links: bool = False,
) -> Listing:
    """List the images of ``train.csv``, ``valid.csv`` and ``test.csv`` that are on disk.

    The patient is the folder ``patient00001`` in an image's path.

    Args:
        folder: folder of the source.
        blank: meaning of an empty cell, for an observation that the report does not mention.
        frontal_only: leave out and count lateral images.
        follow_links: read links to folders, and images that are links out of the source's folder.
    """
    files = [folder / name for name in _TABLES if (folder / name).is_file()]
    if not files:
        raise UserError(
            f"no label table in {printable(str(folder))}; expected {' or '.join(_TABLES)}, as in the releases of "
            "CheXpert (https://stanfordmlgroup.github.io/competitions/chexpert). Put it there, or fix the source's "
            "path."
        )
    rows = pd.concat([_read_table(file, blank) for file in files], ignore_index=True)
    n_rows = len(rows)
    if frontal_only:
        rows = rows[rows["view"] != _LATERAL]
    paths = pd.Series(files_below(folder, follow_links=follow_links), dtype="str")
    without_release = rows["image"].str.replace(r"^CheXpert[^/]*/", "", regex=True)
    located = locate(rows.assign(image=rows["image"].where(rows["image"].isin(paths), without_release)), paths)
    n_unknown = int(located.loc[located["path"].notna(), "patient_id"].isna().sum())
    unknown = {"Images whose path does not contain a patient, each treated as a separate patient": n_unknown}
    notes = [f"Labels are from {', '.join(file.name for file in files)}."]
    return list_rows(located, vocabulary=LABELS, notes=notes, counts=unknown, n_left_out=n_rows - len(rows))


def _read_table(file: Path, blank: Literal["negative", "unknown"]) -> pd.DataFrame:
    """Read a table; see ``read_labels`` for the columns. The split is that of the file."""
    table = read_table(file, (_IMAGE, *LABELS), optional=(_FRONTAL, _VIEW, "Sex", "Age"))
    columns = Columns(image=_IMAGE, one_hot=LABELS, blank=blank, view=_VIEW, age="Age", sex="Sex")
    rows, _ = read_labels(table, columns)
    lateral = rows["image"].str.contains("_lateral", na=False)
    if _FRONTAL in table:
        lateral = (table[_FRONTAL].str.casefold() == "lateral") | (table[_FRONTAL].isna() & lateral)
    return rows.assign(
        patient_id=rows["image"].str.extract(r"(?:^|/)(patient\d+)/", expand=False),
        view=rows["view"].mask(lateral, _LATERAL),
        given_split=_TABLES[file.name],
    )
