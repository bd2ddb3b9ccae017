"""Tests of the layout ``chexpert``, on small releases written here."""

import pandas as pd
import pytest
from samples import texts
from samples.chexpert import ABOUT, LATERAL, image, row
from samples.chexpert import write_table as write

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.sources.chexpert import LABELS, read


def test_a_row_of_each_table(tmp_path):
    write(tmp_path, row(image(1), Edema=1.0, Lung_Opacity="1.0", Pneumonia=-1.0))
    write(tmp_path, row(image(2, part="valid"), Edema=0.0, about={"Sex": "Male", "AP/PA": "PA"}), table="valid.csv")
    write(tmp_path, row(image(3, part="test"), No_Finding=1, about={"Age": "90"}), table="test.csv")
    listing = read(tmp_path)
    images = listing.images
    assert images["path"].tolist() == [image(3, part="test"), image(1), image(2, part="valid")]
    assert images["image"].equals(images["path"])
    assert texts(images["labels"]) == ["No Finding", "Lung Opacity|Edema", ""]
    assert texts(images["uncertain"]) == [None, "Pneumonia", None]
    assert images["unknown"].isna().all()
    unknown = read(tmp_path, blank="unknown").images["unknown"]
    assert unknown.iloc[0].split("|") == [label for label in LABELS if label != "No Finding"]
    assert images["patient_id"].tolist() == ["patient00003", "patient00001", "patient00002"]
    assert images["given_split"].tolist() == ["test", "train", "validation"]
    assert images["age"].tolist() == [90, 68, 68]
    assert images["sex"].tolist() == ["F", "F", "M"]
    assert images["view"].tolist() == ["AP", "AP", "PA"]
    assert listing.vocabulary == set(LABELS)
    assert listing.notes == ("Labels are from train.csv, valid.csv, test.csv.",)


@pytest.mark.parametrize("lateral", [LATERAL, {"Frontal/Lateral": None}])
def test_lateral_images(tmp_path, lateral):
    laterals = [row(image(number, "view2_lateral"), about=lateral) for number in (1, 2)]
    write(tmp_path, row(image(0, "view2_lateral")), *laterals, lost=1)  # the table says that the first is frontal
    frontal = read(tmp_path)
    assert frontal.images["path"].tolist() == [image(0, "view2_lateral")]
    assert (frontal.n_left_out, frontal.n_missing, frontal.n_rows) == (2, 0, 3)
    both = read(tmp_path, frontal_only=False)
    assert both.images["view"].tolist() == ["AP", "LATERAL"]
    assert (both.n_left_out, both.n_missing, both.n_rows) == (0, 1, 3)


@pytest.mark.parametrize("release", ["CheXpert-v1.0/", "CheXpert-v1.0-small/"])
@pytest.mark.parametrize("on_disk", [True, False])
def test_paths_with_and_without_the_name_of_the_release(tmp_path, release, on_disk):
    below = release if on_disk else ""
    write(tmp_path, row(image(1), release=release), row(image(2), release="Other/"), below=below)
    listing = read(tmp_path)
    assert listing.images["path"].tolist() == [below + image(1)]
    assert listing.n_missing == 1


def test_a_path_without_a_patient(tmp_path):
    listing = read(write(tmp_path, row("train/x/view1_frontal.jpg"), row(image(1))))
    assert texts(listing.images["patient_id"]) == ["patient00001", None]
    assert listing.notes[1].endswith("each treated as a separate patient: 1.")


def test_a_table_without_optional_or_required_columns(tmp_path):
    write(tmp_path, row(image(1), Edema=1), row(image(1, "view2_lateral")), table="test.csv")
    table = pd.read_csv(tmp_path / "test.csv").drop(columns=list(ABOUT))
    table.to_csv(tmp_path / "test.csv", index=False)
    listing = read(tmp_path)
    assert (len(listing.images), listing.n_left_out) == (1, 1)
    assert listing.images[["view", "age", "sex"]].isna().all(axis=None)
    table.drop(columns="Support Devices").to_csv(tmp_path / "test.csv", index=False)
    with pytest.raises(UserError, match=r"test\.csv has no column Support Devices"):
        read(tmp_path)
    (tmp_path / "test.csv").rename(tmp_path / "labels.csv")
    with pytest.raises(UserError, match=r"train\.csv or valid\.csv or test\.csv"):
        read(tmp_path)
