import os
from pathlib import Path

import pytest
from samples import refusal, texts, write_files

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.sources.class_folders import holds_images, read
from cxr_pipeline.data.sources.readers import file_reader


def test_split_folders_above_the_classes(tmp_path):
    folders = ("Test", "VALID", "Val", "dev", "train", "validation")
    write_files(tmp_path, *(f"{folder}/ill/a.png" for folder in folders), "well/deeper/b.png")
    images = read(tmp_path).images
    assert images["patient_id"].isna().all()
    assert images["labels"].tolist() == ["ill", "ill", "ill", "dev", "ill", "ill", "well"]
    assert texts(images["given_split"]) == ["test", "validation", "validation", None, "train", "validation", None]
    given = read(tmp_path, given_splits={"val": "train", "Dev": "validation"}).images
    assert given["labels"].tolist() == [*["ill"] * 6, "well"]
    assert texts(given["given_split"]) == ["test", "validation", "train", "validation", "train", "validation", None]


def test_patients_within_split(tmp_path):
    images = ("train/ill/p1_a.png", "val/ill/p1_b.png", "test/ill/p1_c.png", "ill/p1_d.png", "test/ill/none.png")
    write_files(tmp_path, *images)
    listing = read(tmp_path, patient_id=r"^(p\d)_", given_splits={"val": "train"}, patients_within_split=True)
    patients = dict(zip(listing.images["image"], texts(listing.images["patient_id"]), strict=True))
    assert patients == dict(zip(images, ["train/p1", "train/p1", "test/p1", "p1", None], strict=True))
    note = "Images whose file name does not contain a patient, each treated as a separate patient: 1."
    assert listing.notes == (note,)


def test_files_other_than_images_are_counted(tmp_path):
    write_files(tmp_path, "a/.DS_Store", "a/Thumbs.db", "a/desktop.ini", ".hidden/x.png", "__MACOSX/a/._x.png")
    others = ("a/notes.txt", "b/notes.txt", "b/x.XML", "README.md", "train/list.txt")
    listing = read(write_files(tmp_path, "a/image", "a/1.2.840", *others))
    assert listing.images["image"].tolist() == ["a/1.2.840", "a/image"]
    assert listing.n_rows == 2
    assert listing.notes == (
        "Files outside of class folders, which were not read: 2.",
        "Files in class folders that are not images (.txt, .xml): 3.",
    )


def test_unusual_names_are_rows_unless_they_are_not_utf8(tmp_path):
    names = ["-rf.png", "an image.png", "back\\slash.png", "quote\"'.png", "two\nlines.png", "胸部.png"]
    write_files(tmp_path, *(f"ill/{name}" for name in names))
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/ill/image\xff.png")).write_text("image")
    listing = read(tmp_path)
    assert listing.images["path"].tolist() == [f"ill/{name}" for name in names]
    assert listing.refused[["image", "reason"]].to_numpy().tolist() == [["ill/image\\xff.png", "unreadable"]]
    listing.refused.to_parquet(tmp_path / "refused.parquet")


def test_links_to_folders(tmp_path):
    source = write_files(tmp_path, "source/ill/a.png", "elsewhere/secret.png") / "source"
    (source / "well").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (source / "ill" / "again").symlink_to(source, target_is_directory=True)
    (source / "ill" / "loop").symlink_to("loop")
    listing = read(source)
    assert listing.images["image"].tolist() == ["ill/a.png", "ill/loop"]
    assert listing.refused[["image", "reason"]].to_numpy().tolist() == [["well", "outside_source"]]
    assert listing.refused["detail"].str.contains("set the source's follow_links to true").all()
    assert listing.notes == ("Links to folders inside the source, which were not followed (follow_links): 1.",)


def test_links_that_are_followed(tmp_path):
    write_files(tmp_path, "store/ill/a.png", "store/ill/deep/b.png", "store/c.png")
    source = tmp_path / "source"
    (source / "well").mkdir(parents=True)
    (source / "ill").symlink_to(tmp_path / "store" / "ill", target_is_directory=True)
    (source / "well" / "c.png").symlink_to(tmp_path / "store" / "c.png")
    (source / "well" / "loop").symlink_to(source, target_is_directory=True)
    (tmp_path / "store" / "ill" / "back").symlink_to(source / "well", target_is_directory=True)
    images = read(source, follow_links=True).images
    assert images["image"].tolist() == ["ill/a.png", "ill/back/c.png", "ill/deep/b.png", "well/c.png"]
    reader = file_reader(source, follow_links=True)
    for path, content in {"ill/deep/b.png": b"store/ill/deep/b.png", "well/c.png": b"store/c.png"}.items():
        assert reader.read(path) == content
        assert refusal(file_reader(source), path).reason == "outside_source"
    for path in ("../store/c.png", str(tmp_path / "store/c.png"), "ill/../../store/c.png"):
        assert refusal(reader, path).reason == "outside_source"
    assert holds_images(source)


def test_a_folder_that_cannot_be_listed(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UserError, match=f"{tmp_path} cannot be listed: Permission denied"):
        read(tmp_path)


def test_the_patient_is_the_first_group_that_is_not_empty(tmp_path):
    names = ["IM-0012-0001.jpeg", "NORMAL2-IM-0012-0001.jpeg", "other.jpeg", "person7_virus_1.jpeg"]
    write_files(tmp_path, *(f"person1_/{name}" for name in names))
    listing = read(tmp_path, patient_id=r"(person\d+)_|((?:NORMAL2-)?IM-\d+)")
    assert texts(listing.images["patient_id"]) == ["IM-0012", "NORMAL2-IM-0012", None, "person7"]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("(", "unterminated"), (r"\d+", "no capture groups"), (r"^(\d+)_", "matches none of 1 file names")],
)
def test_an_invalid_pattern_of_patients(tmp_path, pattern, message):
    with pytest.raises(UserError, match=message) as error:
        read(write_files(tmp_path, "ill/image.png"), patient_id=pattern)
    assert pattern in str(error.value)
