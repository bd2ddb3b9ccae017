"""Tests of the layout ``chexpert``, on small releases written here."""

import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.sources.chexpert import LABELS, read
from cxr_pipeline.data.sources.listing import Listing

ABOUT = {"Sex": "Female", "Age": "68", "Frontal/Lateral": "Frontal", "AP/PA": "AP"}


def row(path: str, release: str = "CheXpert-v1.0-small/", **cells: object) -> dict[str, object]:
    """Return a row of a table; labels are named with underscores for spaces, other columns in ``about``."""
    about = cells.pop("about", {})
    return {"Path": release + path, **ABOUT, **about, **{name.replace("_", " "): cell for name, cell in cells.items()}}


def write(folder: Path, *rows: dict[str, object], table: str = "train.csv", below: str = "", lost: int = 0) -> Path:
    """Write a table and its images, except for the last ``lost``."""
    folder.mkdir(parents=True, exist_ok=True)
    columns = ["Path", *ABOUT, *LABELS]
    pd.DataFrame(rows).reindex(columns=columns).to_csv(folder / table, index=False)
    for written in rows[: len(rows) - lost]:
        image = folder / below / str(written["Path"]).partition("/")[2]
        image.parent.mkdir(parents=True, exist_ok=True)
        image.write_text("image")
    return folder


def read_release(folder: Path, **options: object) -> Listing:
    return read(folder, **{"blank": "negative", "frontal_only": True, **options})


def texts(values: "pd.Series[str]") -> list[str | None]:
    return [None if pd.isna(value) else value for value in values]


def image(number: int, view: str = "view1_frontal", part: str = "train") -> str:
    return f"{part}/patient{number:05d}/study1/{view}.jpg"


def test_a_row_of_each_table(tmp_path: Path) -> None:
    write(tmp_path, row(image(1), Edema=1.0, Lung_Opacity="1.0", Pneumonia=-1.0))
    write(tmp_path, row(image(2, part="valid"), Edema=0.0, about={"Sex": "Male", "AP/PA": "PA"}), table="valid.csv")
    write(tmp_path, row(image(3, part="test"), No_Finding=1, about={"Age": "90"}), table="test.csv")
    listing = read_release(tmp_path)
    images = listing.images
    assert images["path"].tolist() == [image(3, part="test"), image(1), image(2, part="valid")]
    assert images["image"].equals(images["path"])
    assert texts(images["labels"]) == ["No Finding", "Lung Opacity|Edema", ""]
    assert texts(images["uncertain"]) == [None, "Pneumonia", None]
    assert images["unknown"].isna().all()
    unknown = read_release(tmp_path, blank="unknown").images["unknown"]
    assert unknown.iloc[0].split("|") == [label for label in LABELS if label != "No Finding"]
    assert images["patient_id"].tolist() == ["patient00003", "patient00001", "patient00002"]
    assert images["given_split"].tolist() == ["test", "train", "validation"]
    assert images["age"].tolist() == [90, 68, 68]
    assert images["sex"].tolist() == ["F", "F", "M"]
    assert images["view"].tolist() == ["AP", "AP", "PA"]
    assert listing.vocabulary == set(LABELS)
    assert len(LABELS) == 14
    assert listing.notes == ("Labels are from train.csv, valid.csv, test.csv.",)


@pytest.mark.parametrize("lateral", [{"Frontal/Lateral": "Lateral", "AP/PA": None}, {"Frontal/Lateral": None}])
def test_lateral_images(tmp_path: Path, lateral: dict[str, object]) -> None:
    rows = [row(image(1)), row(image(1, "view2_lateral"), about=lateral), row(image(2, "view2_lateral"), about=lateral)]
    write(tmp_path, *rows, lost=1)
    frontal = read_release(tmp_path, frontal_only=True)
    assert frontal.images["path"].tolist() == [image(1)]
    assert (frontal.n_left_out, frontal.n_missing, frontal.n_rows) == (2, 0, 3)
    both = read_release(tmp_path, frontal_only=False)
    assert both.images["view"].tolist() == ["AP", "LATERAL"]
    assert (both.n_left_out, both.n_missing, both.n_rows) == (0, 1, 3)


def test_the_table_takes_precedence_over_the_file_name(tmp_path: Path) -> None:
    assert read_release(write(tmp_path, row(image(1, "view2_lateral")))).n_left_out == 0


@pytest.mark.parametrize("release", ["CheXpert-v1.0/", "CheXpert-v1.0-small/"])
@pytest.mark.parametrize("on_disk", [True, False])
def test_the_name_of_the_release_may_be_there(tmp_path: Path, release: str, on_disk: bool) -> None:
    below = release if on_disk else ""
    listing = read_release(write(tmp_path, row(image(1), release=release), below=below))
    assert listing.images["path"].tolist() == [below + image(1)]


def test_any_other_folder_is_not_stripped(tmp_path: Path) -> None:
    assert read_release(write(tmp_path, row(image(1), release="Other/"))).n_missing == 1


def test_conflicting_rows(tmp_path: Path) -> None:
    rows = [
        row(image(1), No_Finding=1, Edema=1),
        row(image(2), No_Finding=1, Support_Devices=1),
        row(image(3), Edema="perhaps"),
        row(image(4), Edema=1),
        row(image(4), Edema=0),
        row(image(5), Edema=1),
        row(image(5), Edema=1.0),
    ]
    listing = read_release(write(tmp_path, *rows))
    assert listing.images["labels"].tolist() == ["No Finding|Support Devices", "Edema"]
    refused = [(image, reason) for image, reason, _ in listing.refused.itertuples(index=False)]
    assert refused == [
        (image(1), "contradicting_labels"),
        (image(3), "unknown_label"),
        (image(4), "contradicting_labels"),
        (image(4), "contradicting_labels"),
        (image(5), "exact_duplicate"),
    ]
    assert listing.refused["detail"].iloc[0] == "No Finding and a finding"
    assert "Edema has 'perhaps'" in listing.refused["detail"].iloc[1]
    assert listing.n_rows == 7


def test_an_image_in_two_splits(tmp_path: Path) -> None:
    write(tmp_path, row(image(1)))
    write(tmp_path, row(image(1)), table="valid.csv")
    assert read_release(tmp_path).refused["reason"].tolist() == 2 * ["contradicting_labels"]


def test_a_path_without_a_patient(tmp_path: Path) -> None:
    listing = read_release(write(tmp_path, row("train/x/view1_frontal.jpg"), row(image(1))))
    assert texts(listing.images["patient_id"]) == ["patient00001", None]
    assert listing.notes[1] == "Images whose path does not contain a patient, each treated as a separate patient: 1."


def test_a_table_without_optional_columns(tmp_path: Path) -> None:
    write(tmp_path, row(image(1), Edema=1), row(image(1, "view2_lateral")), table="test.csv")
    table = pd.read_csv(tmp_path / "test.csv").drop(columns=list(ABOUT))
    table.to_csv(tmp_path / "test.csv", index=False)
    listing = read_release(tmp_path)
    assert (len(listing.images), listing.n_left_out) == (1, 1)
    assert listing.images[["view", "age", "sex"]].isna().all(axis=None)


@pytest.mark.parametrize("column", ["Path", "Pleural Effusion", "Support Devices"])
def test_a_missing_column(tmp_path: Path, column: str) -> None:
    write(tmp_path, row(image(1)))
    pd.read_csv(tmp_path / "train.csv").drop(columns=column).to_csv(tmp_path / "train.csv", index=False)
    with pytest.raises(UserError, match=rf"train\.csv has no column {column}"):
        read_release(tmp_path)


def test_no_table(tmp_path: Path) -> None:
    write(tmp_path, row(image(1)))
    (tmp_path / "train.csv").rename(tmp_path / "labels.csv")
    with pytest.raises(UserError, match=r"train\.csv or valid\.csv or test\.csv"):
        read_release(tmp_path)


def test_a_table_of_the_size_of_the_release(tmp_path: Path) -> None:
    n = 223_414
    write(tmp_path, row(image(0)))
    cells = [",".join(row) for row in np.random.default_rng(0).choice(["", "1.0", "0.0", "-1.0"], (1000, 13))]
    with (tmp_path / "train.csv").open("w") as table:
        table.write(f"Path,{','.join(ABOUT)},{','.join(LABELS)}\n")
        for i in range(n):
            path = image(i // 3, f"view{i % 3 + 1}_frontal")
            table.write(f"CheXpert-v1.0-small/{path},Female,68,Frontal,AP,,{cells[i % 1000]}\n")
    before = time.process_time()
    listing = read_release(tmp_path)
    assert time.process_time() - before < 20
    assert listing.n_rows == n
    assert listing.n_missing == n - 1
