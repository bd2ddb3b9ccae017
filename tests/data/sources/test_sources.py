"""Tests of checking sources before a run; the common checks over all layouts are in ``test_layouts.py``."""

import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.sources import LAYOUTS, check_source

CLASSES = {"nofinding": ("nofinding", "No Finding"), "effusion": ("effusion",)}
check = partial(check_source, "images", classes=CLASSES, task="effusion")


def test_the_message_says_what_was_expected_where_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        check("class_folders", tmp_path / "effusion")
    for part in (
        f"effusion.sources.images.path: no folder at {tmp_path / 'effusion'}",
        "one folder per class (nofinding, effusion)",
        "--params raw=/path/to/images",
        "https://nihcc.app.box.com/v/ChestXray-NIHCC",
        "https://data.mendeley.com/datasets/rscbjbr9sj",
        "kedro run --env demo --pipeline=effusion",
    ):
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("layout", "name", "content", "message"),
    [
        (
            "class_folders",
            "images",
            b"text",
            r"the file .*images is damaged or not in this layout; expected one folder",
        ),
        (
            "medmnist",
            "images.npz",
            b"PK",
            r"the file .*images\.npz is damaged or not in this layout; expected one \.npz",
        ),
        ("pixel_table", "images.csv", None, r"no file at .*images\.csv; expected one \.csv or \.csv\.gz table"),
    ],
)
def test_files(tmp_path: Path, layout: str, name: str, content: bytes | None, message: str) -> None:
    if content:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        check(layout, tmp_path / name)


def test_an_unreadable_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_dir", denied)
    with pytest.raises(UserError, match=r"images\.path: .* cannot be read \(Permission denied\); expected a release"):
        check("nih", tmp_path)


@pytest.mark.parametrize(
    ("layout", "table", "image"),
    [
        ("nih", "Data_Entry_2017.csv", "images/a.png"),
        ("chexpert", "train.csv", "train/a.png"),
        ("label_table", "labels.csv.gz", "deep/a.png"),
        ("class_folders", "train/list.txt", "train/ill/a.png"),
    ],
)
def test_a_table_without_images(tmp_path: Path, layout: str, table: str, image: str) -> None:
    for name in (table, ".DS_Store"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("a,b\n")
    with pytest.raises(UserError, match=f"no images in .*{table.partition('/')[0]}"):
        check(layout, tmp_path)
    (tmp_path / image).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / image).write_text("image")
    check(layout, tmp_path)


def test_images_are_unpacked_into_the_given_folder(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "table.csv").write_text("label,pixel1\n0,7\n")
    assert LAYOUTS["pixel_table"].reader(tmp_path / "images", unpacked=tmp_path / "unpacked", label="label").read("0")
    assert [file.name for file in (tmp_path / "images").iterdir()] == ["table.csv"]
    assert any((tmp_path / "unpacked").iterdir())


def test_sources_are_imported_without_what_decodes_images() -> None:
    heavy = "{'cv2', 'kornia_rs', 'matplotlib', 'pydicom', 'sklearn', 'tensorflow'}"
    program = f"import sys, cxr_pipeline.data.sources; print({heavy} & sys.modules.keys())"
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert printed == "set()\n"
