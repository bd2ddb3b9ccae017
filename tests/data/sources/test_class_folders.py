import os
from pathlib import Path

import pandas as pd
import pytest

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.sources.class_folders import read


def write(folder: Path, *paths: str) -> None:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(path)


def test_the_folder_is_the_label(tmp_path: Path) -> None:
    write(tmp_path, "No Finding/b.png", "No Finding/deeper/a.jpg", "Effusion/a.png")
    images = read(tmp_path, patient_id="none").images
    assert images[["image", "path", "labels"]].to_numpy().tolist() == [
        ["Effusion/a.png", "Effusion/a.png", "Effusion"],
        ["No Finding/b.png", "No Finding/b.png", "No Finding"],
        ["No Finding/deeper/a.jpg", "No Finding/deeper/a.jpg", "No Finding"],
    ]
    assert images[["given_split", "patient_id"]].isna().all(axis=None)


@pytest.mark.parametrize(
    ("folder", "split"),
    [
        ("train", "train"),
        ("Val", "validation"),
        ("VALID", "validation"),
        ("validation", "validation"),
        ("Test", "test"),
    ],
)
def test_split_folders_above_the_classes(tmp_path: Path, folder: str, split: str) -> None:
    write(tmp_path, f"{folder}/ill/a.png", "well/b.png")
    images = read(tmp_path, patient_id="none").images.set_index("image")
    assert images.loc[f"{folder}/ill/a.png", ["labels", "given_split"]].tolist() == ["ill", split]
    assert images.loc["well/b.png", "labels"] == "well"
    assert pd.isna(images.loc["well/b.png", "given_split"])


def test_given_splits(tmp_path: Path) -> None:
    write(tmp_path, "train/ill/a.png", "Val/ill/b.png", "dev/ill/c.png", "test/ill/d.png")
    images = read(tmp_path, patient_id="none", given_splits={"val": "train", "Dev": "validation"}).images
    assert dict(zip(images["image"].str[-5], images["given_split"], strict=True)) == {
        "a": "train",
        "b": "train",
        "c": "validation",
        "d": "test",
    }
    assert set(images["labels"]) == {"ill"}


def test_patients_within_split(tmp_path: Path) -> None:
    write(tmp_path, "train/ill/p1_a.png", "val/ill/p1_b.png", "test/ill/p1_c.png", "ill/p1_d.png", "test/ill/none.png")
    listing = read(tmp_path, patient_id=r"^(p\d)_", given_splits={"val": "train"}, patients_within_split=True)
    patients = listing.images.set_index("image")["patient_id"]
    assert patients.drop("test/ill/none.png").to_dict() == {
        "train/ill/p1_a.png": "train/p1",
        "val/ill/p1_b.png": "train/p1",
        "test/ill/p1_c.png": "test/p1",
        "ill/p1_d.png": "p1",
    }
    assert pd.isna(patients["test/ill/none.png"])
    assert listing.notes == (
        "Images whose file name does not contain a patient, each treated as a separate patient: 1.",
    )


def test_every_file_but_system_files_is_a_row(tmp_path: Path) -> None:
    system_files = ["a/.DS_Store", "a/Thumbs.db", "a/desktop.ini", ".hidden/x.png", "__MACOSX/a/._x.png"]
    write(tmp_path, *system_files, "a/notes.txt", "a/image")
    listing = read(tmp_path, patient_id="none")
    assert listing.images["image"].tolist() == ["a/image", "a/notes.txt"]
    assert listing.n_rows == 2


def test_files_outside_of_class_folders_are_counted(tmp_path: Path) -> None:
    write(tmp_path, "README.md", "train/list.txt", "train/a/x.png")
    listing = read(tmp_path, patient_id="none")
    assert listing.n_rows == 1
    assert listing.notes == ("Files outside of class folders, which were not read: 2.",)


@pytest.mark.parametrize(
    "name", ["an image.png", "two\nlines.png", "胸部.png", "-rf.png", "quote\"'.png", "back\\slash.png"]
)
def test_unusual_names_are_rows(tmp_path: Path, name: str) -> None:
    write(tmp_path, f"ill/{name}")
    images = read(tmp_path, patient_id="none").images
    assert images["path"].tolist() == [f"ill/{name}"]
    assert (tmp_path / images["path"].item()).read_text() == f"ill/{name}"


def test_a_name_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ill").mkdir()
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/ill/image\xff.png")).write_text("image")
    listing = read(tmp_path, patient_id="none")
    assert listing.images.empty
    assert listing.refused[["image", "reason"]].to_numpy().tolist() == [["ill/image\\xff.png", "unreadable"]]
    assert listing.refused.to_json()


def test_links_to_folders(tmp_path: Path) -> None:
    source = tmp_path / "source"
    write(source, "ill/a.png")
    write(tmp_path, "elsewhere/secret.png")
    (source / "well").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (source / "ill" / "again").symlink_to(source, target_is_directory=True)
    (source / "ill" / "loop").symlink_to("loop")
    listing = read(source, patient_id="none")
    assert listing.images["image"].tolist() == ["ill/a.png", "ill/loop"]
    assert listing.refused[["image", "reason"]].to_numpy().tolist() == [["well", "outside_source"]]
    assert listing.notes == ("Links to folders inside the source, which were not followed: 1.",)


def test_patient_is_the_first_group_that_is_not_empty(tmp_path: Path) -> None:
    names = ["person7_virus_1.jpeg", "NORMAL2-IM-0012-0001.jpeg", "IM-0012-0001.jpeg", "other.jpeg"]
    write(tmp_path, *(f"person1_/{name}" for name in names))
    listing = read(tmp_path, patient_id=r"(person\d+)_|((?:NORMAL2-)?IM-\d+)")
    patients = dict(
        zip(listing.images["image"].str.removeprefix("person1_/"), listing.images["patient_id"], strict=True)
    )
    assert pd.isna(patients.pop("other.jpeg"))
    assert patients == dict(zip(names, ["person7", "NORMAL2-IM-0012", "IM-0012"], strict=False))
    assert listing.notes[0].endswith("each treated as a separate patient: 1.")


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("(", "unterminated"), (r"\d+", "no capture groups"), (r"^(\d+)_", "matches none of 1 file names")],
)
def test_an_invalid_pattern_of_patients(tmp_path: Path, pattern: str, message: str) -> None:
    write(tmp_path, "ill/image.png")
    with pytest.raises(UserError, match=message) as error:
        read(tmp_path, patient_id=pattern)
    assert pattern in str(error.value)


def test_kermany(shared_data: Path) -> None:
    listing = read(shared_data / "kermany", patient_id=r"(person\d+)_|((?:NORMAL2-)?IM-\d+)")
    assert listing.images.groupby("labels").size().to_dict() == {"NORMAL": 1341, "PNEUMONIA": 3875}
    assert listing.images["patient_id"].notna().all()
    assert (listing.images["given_split"] == "train").all()
    assert listing.images["patient_id"].nunique() == 2846
