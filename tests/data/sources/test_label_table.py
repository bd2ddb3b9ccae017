"""Tests of the layout ``label_table``, on folders written here."""

import os
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.sources.label_table import files_below, holds_images, normal, read
from cxr_pipeline.data.sources.listing import Listing

COLUMNS = {"image": "image", "labels": "finding"}


def write(folder: Path, *images: str) -> Path:
    for image in images:
        (folder / image).parent.mkdir(parents=True, exist_ok=True)
        (folder / image).write_text(image)
    return folder


def read_rows(folder: Path, *names: str, table: str = "labels.csv") -> Listing:
    lines = ["image,finding", *(f"{name},Mass" for name in names)]
    (folder / table).write_text("\n".join(lines) + "\n")
    return read(folder, table=table, columns=COLUMNS)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("deep/er/a.png", "deep/er/a.png"),
        ("./deep//er/../er/a.png", "deep/er/a.png"),
        ("deep\\er\\a.png", "deep/er/a.png"),
        ("a.png", "deep/er/a.png"),
        ("deep/er/a", "deep/er/a.png"),
        ("a", "deep/er/a.png"),
        ("1.2.840", "deep/1.2.840.dcm"),
        ("1.2.840.dcm", "deep/1.2.840.dcm"),
        ("b.png", "b.png"),
        ("b", "b.png"),
        ("bare", "deep/bare"),
    ],
)
def test_what_a_image_may_be_called(tmp_path: Path, name: str, path: str) -> None:
    write(tmp_path, "deep/er/a.png", "deep/1.2.840.dcm", "b.png", "deep/bare")
    listing = read_rows(tmp_path, name)
    assert listing.images[["image", "path", "labels"]].to_numpy().tolist() == [[path, path, "Mass"]]


@pytest.mark.parametrize(
    "name", ["gone.png", "er/a.png", "deep", "a.jpg", "A.PNG", "labels.csv", "labels", ".hidden.png"]
)
def test_a_image_that_is_not_there_is_counted_only(tmp_path: Path, name: str) -> None:
    write(tmp_path, "deep/er/a.png", ".hidden.png")
    listing = read_rows(tmp_path, name)
    assert (len(listing.images), len(listing.refused), listing.n_missing, listing.n_rows) == (0, 0, 1, 1)


def test_a_row_that_names_no_image_is_missing(tmp_path: Path) -> None:
    assert read_rows(write(tmp_path, "a.png"), "", "a.png").n_missing == 1


def test_a_name_of_several_images(tmp_path: Path) -> None:
    write(tmp_path, "a/x.png", "b/x.png", "x.png", "a/y.png", "b/y.jpg", "y2.png")
    listing = read_rows(tmp_path, "x.png", "a/x.png", "x", "y", "y.jpg", "b/y")
    assert listing.images["path"].tolist() == ["a/x.png", "b/y.jpg", "x.png"]
    assert listing.refused[["image", "reason"]].to_numpy().tolist() == [
        ["b/y", "exact_duplicate"],
        ["x", "exact_duplicate"],
        ["y", "unreadable"],
    ]
    assert "several files" in listing.refused["detail"].iloc[2]


@pytest.mark.parametrize(
    "name", ["../secret.png", "/etc/passwd", "a/../../secret.png", "..\\secret.png", "C:\\x.png", ".."]
)
def test_a_path_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    write(tmp_path, "secret.png", "source/a.png")
    listing = read_rows(tmp_path / "source", name, "a.png")
    assert listing.refused["reason"].tolist() == ["outside_source"]
    assert listing.images["path"].tolist() == ["a.png"]


@given(st.lists(st.sampled_from(["a", "b", "..", ".", ""]), min_size=1, max_size=6))
def test_a_normal_name_never_climbs_after_it_went_down(parts: list[str]) -> None:
    name = normal(pd.Series(["/".join(parts)], dtype="str")).iloc[0]
    assert ".." not in name.lstrip("./").split("/")
    assert os.path.normpath("/x/" + name) == os.path.normpath("/x/" + "/".join(parts)) or name.startswith("/")


def test_notes_say_where_the_labels_are_from_and_what_has_none(tmp_path: Path) -> None:
    write(tmp_path, "a.png", "b.png", "__MACOSX/a.png", "Thumbs.db")
    (tmp_path / "tables").mkdir()
    listing = read_rows(tmp_path, "a.png", table="tables/of labels.csv")
    assert listing.notes == (
        "Labels are from of labels.csv.",
        "Files below the folder that the table does not name: 1.",
    )
    assert read_rows(tmp_path, "a.png", "b.png", table="tables/of labels.csv").notes[1:] == ()


def test_every_column(tmp_path: Path) -> None:
    write(tmp_path, "a.png")
    (tmp_path / "t.csv").write_text("f,Mass,No Finding,who,how,years,sex,part\na.png,1,,0012,ap,3,female,val\n")
    columns = {"image": "f", "one_hot": ("Mass", "No Finding"), "blank": "unknown", "patient_id": "who", "view": "how"}
    listing = read(tmp_path, table="t.csv", columns={**columns, "age": "years", "sex": "sex", "split": "part"})
    image = listing.images.iloc[0].dropna().to_dict()
    assert image == {
        "image": "a.png",
        "path": "a.png",
        "patient_id": "0012",
        "labels": "Mass",
        "unknown": "No Finding",
        "view": "AP",
        "age": 3.0,
        "sex": "F",
        "given_split": "validation",
    }
    assert listing.vocabulary == {"Mass", "No Finding"}


def test_links_to_folders_are_not_followed(tmp_path: Path) -> None:
    write(tmp_path, "outside/a.png", "source/b.png")
    (tmp_path / "source" / "linked").symlink_to(tmp_path / "outside")
    assert list(files_below(tmp_path / "source")) == ["b.png"]


def test_files_come_in_the_same_order_and_none_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "b/2.png", "a/10.png", "a/9.png", "c.png", "a/z/1.png")
    monkeypatch.setattr(os, "stat", lambda *_, **__: pytest.fail("an image was looked at"))
    found = list(files_below(tmp_path))
    monkeypatch.undo()
    assert found == ["c.png", "a/10.png", "a/9.png", "a/z/1.png", "b/2.png"]


def test_a_name_that_is_not_utf8_is_passed_over(tmp_path: Path) -> None:
    try:
        (tmp_path / "bad\udcff.png").write_text("image")
    except OSError:
        pytest.skip("this file system has no such names")
    assert list(files_below(write(tmp_path, "a.png"))) == ["a.png"]


def test_a_folder_that_cannot_be_listed_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "a/a.png", "b/b.png")
    scan = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("/b"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UserError, match="cannot be listed"):
        read_rows(tmp_path, "a.png")


def test_a_table_alone_is_no_source(tmp_path: Path) -> None:
    write(tmp_path, "labels.csv", "old.csv.gz", "labels.parquet", ".DS_Store")
    assert not holds_images(tmp_path)
    assert holds_images(write(tmp_path, "deep/a.png"))


def test_a_column_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("images,finding\n")
    with pytest.raises(UserError, match="did you mean images"):
        read(tmp_path, table="labels.csv", columns=COLUMNS)


def test_the_real_nih_table(shared_data: Path) -> None:
    """The table of a release read by its columns gives what the layout ``nih`` gives."""
    from cxr_pipeline.data.sources import nih

    columns = {"image": "Image Index", "labels": "Finding Labels", "patient_id": "Patient ID", "age": "Patient Age"}
    columns |= {"view": "View Position", "sex": "Patient Gender"}
    listing = read(shared_data / "nih", table="Data_Entry_2017_v2020.csv.gz", columns=columns)
    expected = nih.read(shared_data / "nih")
    assert (listing.n_rows, listing.n_missing) == (expected.n_rows, expected.n_missing)
    assert listing.vocabulary == expected.vocabulary
    same = ["path", "patient_id", "view", "age", "sex"]
    pd.testing.assert_frame_equal(listing.images[same], expected.images[same])
    sets = [images["labels"].str.split("|").map(frozenset) for images in (listing.images, expected.images)]
    assert sets[0].equals(sets[1])
