"""Tests of the check of sources before a run; the common checks over all layouts are in ``test_layouts.py``."""

import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from samples import write_files

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.sources import check_source

check = partial(check_source, "images", classes={"nofinding": ["nofinding"], "effusion": ["effusion"]}, task="effusion")


def test_the_message_gives_the_key_the_place_what_was_expected_and_what_to_do(tmp_path):
    with pytest.raises(UserError) as error:
        check("class_folders", tmp_path / "effusion")
    for part in (
        f"effusion.sources.images.path: no folder at {tmp_path / 'effusion'}",
        "one folder per class (nofinding, effusion)",
        "--params raw=/path/to/images",
        "https://nihcc.app.box.com/v/ChestXray-NIHCC",
        "kedro run --env demo --pipeline=effusion",
    ):
        assert part in str(error.value)


@pytest.mark.parametrize(("layout", "name"), [("class_folders", "images"), ("medmnist", "images.npz")])
def test_a_file_that_is_not_in_the_layout(tmp_path, layout, name):
    (tmp_path / name).write_bytes(b"PK")
    with pytest.raises(UserError, match=f"the file .*{name} is damaged or not in this layout; expected one"):
        check(layout, tmp_path / name)


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "raw").write_text("")
    message = r"images\.path: .*/raw is a file, not a folder with effusion in it; .*--params raw=/path/to/images"
    with pytest.raises(UserError, match=message):
        check("class_folders", tmp_path / "raw" / "effusion")


def test_an_unreadable_folder(tmp_path, monkeypatch):
    def deny(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_dir", deny)
    with pytest.raises(UserError, match=r"images\.path: .* cannot be read \(Permission denied\); expected a release"):
        check("nih", tmp_path)


@pytest.mark.parametrize(
    ("layout", "table", "image"),
    [
        ("nih", "Data_Entry_2017.csv", "images/a.png"),
        ("chexpert", "train.csv", "train/a.png"),
        ("label_table", "labels.csv.gz", "deep/a.png"),
        ("class_folders", "train/ill/list.txt", "train/ill/a.png"),
    ],
)
def test_a_table_without_images(tmp_path, layout, table, image):
    write_files(tmp_path, table, ".DS_Store")
    with pytest.raises(UserError, match=f"no images in .*{table.partition('/')[0]}"):
        check(layout, tmp_path)
    check(layout, write_files(tmp_path, image))


def test_sources_are_imported_without_what_decodes_images():
    heavy = "{'cv2', 'kornia_rs', 'matplotlib', 'pydicom', 'sklearn', 'tensorflow'}"
    program = f"import sys, cxr_pipeline.data.sources; print({heavy} & sys.modules.keys())"
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert printed == "set()\n"


@pytest.mark.parametrize(
    ("layout", "table", "link"),
    [("class_folders", "notes.txt", "ill"), ("nih", "Data_Entry_2017.csv", "images_01"), ("label_table", "t.csv", "x")],
)
def test_a_link_to_a_folder_may_hold_images_and_is_not_followed(tmp_path, layout, table, link):
    write_files(tmp_path, f"source/{table}", "elsewhere/notes.csv")
    (tmp_path / "source" / link).symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    check(layout, tmp_path / "source")
