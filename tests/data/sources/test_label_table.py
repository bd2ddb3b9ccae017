"""Tests of the layout ``label_table``, and of matching the rows of any label table with files."""

import pandas as pd
import pytest
from samples import list_table, write_files

from cxr_pipeline.data.sources.listing import list_rows


def read_rows(folder, *names, **options):
    return list_table(folder, "image,label\n" + "".join(f"{name},Mass\n" for name in names), **options)


NAMES = {
    "deep/er/a.png": ("./deep//er/../er/a.png", "deep\\er\\a.png", "a.png", "deep/er/a", "a"),
    "deep/1.2.840.dcm": ("1.2.840", "1.2.840.dcm"),
    "deep/bare": ("bare",),
    "deep/\u00e9.png": ("deep/e\u0301.png",),
    "deep/e\u0302.png": ("\u00ea",),
    "deep/report.png": ("report",),
}


@pytest.mark.parametrize(("path", "name"), [(path, name) for path, names in NAMES.items() for name in names])
def test_names_of_an_image(tmp_path, path, name):
    listing = read_rows(write_files(tmp_path, *NAMES, "deep/report.txt", "other/report.pdf"), name)
    assert listing.images[["image", "path", "labels"]].to_numpy().tolist() == [[path, path, "Mass"]]


@pytest.mark.parametrize("name", ["", "gone.png", "er/a.png", "deep", "a.jpg", "A.PNG", "labels.csv", ".hidden.png"])
def test_missing_images_are_counted(tmp_path, name):
    listing = read_rows(write_files(tmp_path, "deep/er/a.png", ".hidden.png"), name, "a.png")
    assert (len(listing.images), len(listing.refused), listing.n_missing) == (1, 0, 1)


def test_a_name_of_several_images(tmp_path):
    write_files(tmp_path, "a/x.png", "b/x.png", "x.png", "a/y.png", "b/y.jpg", "y2.png", "old.csv")
    listing = read_rows(tmp_path, "x.png", "a/x.png", "x", "y", "y.jpg", "b/y")
    assert listing.images["path"].tolist() == ["a/x.png", "b/y.jpg", "x.png"]
    assert listing.n_repeated == 2
    assert listing.notes == ("Labels are from labels.csv.", "Images below the folder that the table does not name: 3.")
    assert listing.refused.to_numpy().tolist() == [
        ["y", "unreadable", "several files have this name; the table must give the path"],
    ]


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../secret", "..\\secret", "C:\\x.png", ".."])
def test_a_path_that_leads_out_is_refused(tmp_path, name):
    listing = read_rows(write_files(tmp_path, "secret", "source/a.png") / "source", name, "a.png")
    assert listing.refused["reason"].tolist() == ["outside_source"]
    assert listing.images["path"].tolist() == ["a.png"]


def test_images_in_a_linked_folder(tmp_path):
    write_files(tmp_path, "elsewhere/a.png", "source/labels.csv")
    (tmp_path / "source" / "images").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert read_rows(tmp_path / "source", "a.png").n_missing == 1
    assert read_rows(tmp_path / "source", "a.png", follow_links=True).images["path"].tolist() == ["images/a.png"]


def test_rows_of_the_same_image():
    contents = [
        ("same.png", "Mass", "1", "train", None),
        ("same.png", "Mass", "1", "train", None),
        ("label.png", "Mass", "1", None, None),
        ("label.png", "", "1", None, None),
        ("patient.png", "Mass", "1", None, None),
        ("patient.png", "Mass", "2", None, None),
        ("split.png", "Mass", "1", "train", None),
        ("split.png", "Mass", "1", "test", None),
        (None, "Mass", "1", None, None),
        ("refused.png", "Mass", "1", None, "unknown_label"),
        ("refused.png", "Mass", "1", None, None),
        (None, "Mass", "1", None, "unknown_label"),
    ]
    rows = pd.DataFrame(contents, columns=["path", "labels", "patient_id", "given_split", "reason"], dtype="str")
    listing = list_rows(rows.assign(image=[f"row {i}" for i in range(len(rows))]), n_left_out=3)
    assert listing.images[["image", "path"]].to_numpy().tolist() == [["row 0", "same.png"]]
    assert dict(zip(listing.refused["image"], listing.refused["reason"], strict=True)) == {
        **{f"row {i}": "contradicting_labels" for i in (2, 3, 4, 5, 6, 7, 10)},
        **{f"row {i}": "unknown_label" for i in (9, 11)},
    }
    assert (listing.n_missing, listing.n_left_out, listing.n_repeated, listing.n_rows) == (1, 3, 1, 15)
