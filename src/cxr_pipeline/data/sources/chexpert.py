"""Layout ``chexpert``: a release of CheXpert (Irvin et al. 2019, https://arxiv.org/abs/1901.07031)."""

from pathlib import Path
from typing import Literal

import pandas as pd

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.sources.label_table import files_below, normal, place
from cxr_pipeline.data.sources.label_tables import Columns, list_rows, read_labels, read_table
from cxr_pipeline.data.sources.listing import Listing, printable
from cxr_pipeline.data.sources.readers import FileReader

NO_FINDING = "No Finding"
SUPPORT_DEVICES = "Support Devices"
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
    SUPPORT_DEVICES,
)
EXPECTED = "a release of CheXpert: train.csv or valid.csv, and images below train/ or valid/"

_TABLES = {"train.csv": "train", "valid.csv": "validation", "test.csv": "test"}
_IMAGE, _FRONTAL, _VIEW = "Path", "Frontal/Lateral", "AP/PA"
_ABOUT_THE_IMAGE = (_FRONTAL, _VIEW, "Sex", "Age")
_LATERAL = "LATERAL"


def read(folder: Path, *, blank: Literal["negative", "unknown"], frontal_only: bool) -> Listing:
    """List the images that ``train.csv``, ``valid.csv`` and ``test.csv`` name and that are on disk.

    The patient is the folder ``patient00001`` in an image's path. The name of the release, with which each ``Path``
    starts, may be missing on disk.

    Args:
        folder: holds at least one of the tables, and the images.
        blank: what it means that a report does not mention an observation.
        frontal_only: leave lateral images out.

    Raises:
        UserError: no table, a table that cannot be read or lacks a column, or a folder that cannot be listed.
    """
    files = _tables(folder)
    if not files:
        raise UserError(
            f"no label table in {printable(str(folder))}; expected {' or '.join(_TABLES)}, as in the releases of "
            "CheXpert (https://stanfordmlgroup.github.io/competitions/chexpert). Put it there, or mend the source's "
            "path."
        )
    rows = pd.concat([_read_table(file, blank) for file in files], ignore_index=True)
    lateral = rows["view"] == _LATERAL
    kept = rows[~lateral] if frontal_only else rows
    places: dict[str, str | None] = {path: path for path in files_below(folder)}
    named = kept["image"].str.replace(r"^CheXpert[^/]*/", "", regex=True)
    kept = place(kept.assign(image=kept["image"].where(kept["image"].isin(places.keys()), named)), places)
    notes = [f"Labels are from {', '.join(file.name for file in files)}."]
    n_unknown = int(kept.loc[kept["path"].notna(), "patient_id"].isna().sum())
    if n_unknown:
        notes.append(f"Images whose path does not tell the patient, each taken for a patient of its own: {n_unknown}.")
    return list_rows(
        kept, vocabulary=frozenset(LABELS), notes=tuple(notes), n_left_out=int(lateral.sum()) if frontal_only else 0
    )


def reader(folder: Path, **_: object) -> FileReader:
    """Give what reads the images that ``read`` lists."""
    return FileReader(folder)


def holds_images(folder: Path) -> bool:
    """Tell whether there is a table, and any file in a folder below; stops at the first."""
    return bool(_tables(folder)) and any("/" in path for path in files_below(folder))


def _tables(folder: Path) -> list[Path]:
    return [folder / name for name in _TABLES if (folder / name).is_file()]


def _read_table(file: Path, blank: Literal["negative", "unknown"]) -> pd.DataFrame:
    """Read a table; see ``read_labels`` for the columns, the split being that of the file.

    Raises:
        UserError: it cannot be read or lacks a column.
    """
    table = read_table(file, (_IMAGE, *LABELS), optional=_ABOUT_THE_IMAGE)
    table = table.reindex(columns=[_IMAGE, *LABELS, *_ABOUT_THE_IMAGE]).astype("str")
    columns = Columns(image=_IMAGE, one_hot=LABELS, blank=blank, view=_VIEW, age="Age", sex="Sex")
    rows, _ = read_labels(table, columns)
    images = normal(rows["image"])
    frontal = table[_FRONTAL].str.casefold()
    lateral = (frontal == "lateral") | (frontal.isna() & images.str.contains("_lateral", na=False))
    return _refuse_contradicting(rows).assign(
        image=images,
        patient_id=images.str.extract(r"(?:^|/)(patient\d+)/", expand=False),
        view=rows["view"].mask(lateral, _LATERAL),
        given_split=_TABLES[file.name],
    )


def _refuse_contradicting(rows: pd.DataFrame) -> pd.DataFrame:
    """Refuse images with and without a finding; support devices are none."""
    texts = rows["labels"].dropna().unique()
    both = [
        text for text in texts if NO_FINDING in (found := text.split("|")) and {*found} - {NO_FINDING, SUPPORT_DEVICES}
    ]
    case = rows["labels"].isin(both)
    return rows.assign(
        reason=rows["reason"].mask(case, "contradicting_labels"),
        detail=rows["detail"].mask(case, f"{NO_FINDING} and a finding"),
    )
