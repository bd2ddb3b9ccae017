"""Tests of the way into the layouts."""

import subprocess
import sys
from pathlib import Path

import pytest

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.sources import LAYOUTS, check_source, open_source, read_source

CLASSES = {"nofinding": ("nofinding", "No Finding"), "effusion": ("effusion",)}


def check(layout: str, folder: Path) -> None:
    check_source("images", layout, folder, classes=CLASSES, task="effusion")


def test_read_source_hands_options_to_the_layout(tmp_path: Path) -> None:
    (tmp_path / "ill").mkdir()
    (tmp_path / "ill" / "12_0.png").write_text("image")
    listing = read_source("class_folders", tmp_path, patient_id=r"^(\d+)_")
    assert listing.images["patient_id"].tolist() == ["12"]


def test_a_source_that_is_there_passes(tmp_path: Path) -> None:
    (tmp_path / "ill").mkdir()
    (tmp_path / "ill" / "a.png").write_text("image")
    check("class_folders", tmp_path)


def test_the_message_says_what_was_expected_where_and_what_to_type(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        check("class_folders", tmp_path / "effusion")
    for part in (
        "effusion.sources.images.path: no folder at",
        str(tmp_path / "effusion"),
        "one folder per class (nofinding, effusion)",
        "--params raw=/path/to/images",
        "https://nihcc.app.box.com/v/ChestXray-NIHCC",
        "https://data.mendeley.com/datasets/rscbjbr9sj",
        "kedro run --env demo --pipeline=effusion",
    ):
        assert part in str(error.value)


@pytest.mark.parametrize("layout", sorted(set(LAYOUTS) - {"label_table", "phantoms"}))
def test_a_folder_without_images(tmp_path: Path, layout: str) -> None:
    (tmp_path / "readme.txt").write_text("nothing yet")
    with pytest.raises(UserError, match=r"nothing to read in .*readme\.txt"):
        check(layout, tmp_path)
    with pytest.raises(UserError, match=r"effusion\.sources\.images\.path: no folder at .*absent; expected "):
        check(layout, tmp_path / "absent")


def test_a_file_in_the_folder_s_place(tmp_path: Path) -> None:
    (tmp_path / "images").write_text("no folder")
    with pytest.raises(UserError, match=r"path: the file .*images is something else or damaged; expected one folder"):
        check("class_folders", tmp_path / "images")


def test_a_source_may_be_a_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"path: no file at .*images\.csv; expected one \.csv or \.csv\.gz table"):
        check("pixel_table", tmp_path / "images.csv")
    (tmp_path / "images.csv").write_text("label,pixel1\n0,7\n")
    check("pixel_table", tmp_path / "images.csv")
    check("pixel_table", tmp_path)


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "images.npz").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"the file .*images\.npz is something else or damaged; expected one \.npz"):
        check("medmnist", tmp_path / "images.npz")


def test_an_unreadable_folder_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_dir", denied)
    with pytest.raises(UserError, match=r"images\.path: .* cannot be read \(Permission denied\); expected a release"):
        check("nih", tmp_path)


def test_a_table_without_images(tmp_path: Path) -> None:
    (tmp_path / "Data_Entry_2017.csv").write_text("Image Index\n")
    (tmp_path / "images").mkdir()
    with pytest.raises(UserError, match="Data_Entry_2017"):
        check("nih", tmp_path)
    (tmp_path / "images" / "a.png").write_text("image")
    check("nih", tmp_path)


def test_phantoms_need_nothing(tmp_path: Path) -> None:
    check("phantoms", tmp_path / "absent")


def test_every_layout_of_the_configuration_can_be_read() -> None:
    from typing import get_args

    from cxr_pipeline.framework.config.sources import Source

    kinds = get_args(get_args(Source)[0])
    assert {get_args(kind.model_fields["layout"].annotation)[0] for kind in kinds} == set(LAYOUTS)


def test_open_source_gives_what_reads_the_images(tmp_path: Path) -> None:
    (tmp_path / "ill").mkdir()
    (tmp_path / "ill" / "a.png").write_text("image")
    reader = open_source("class_folders", tmp_path, unpacked=tmp_path / "unpacked", patient_id="none")
    assert reader.read("ill/a.png") == b"image"
    assert not (tmp_path / "unpacked").exists()


def test_open_source_unpacks_into_the_folder_for_that(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "table.csv").write_text("label,pixel1\n0,7\n")
    options = {"label": "label", "labels": ("ill",), "patient_id": None}
    reader = open_source("pixel_table", tmp_path / "images", unpacked=tmp_path / "unpacked", **options)
    assert reader.read("0")
    assert [file.name for file in (tmp_path / "images").iterdir()] == ["table.csv"]
    assert [file.suffix for file in (tmp_path / "unpacked").iterdir()] == [".npy"]


def test_sources_are_imported_without_what_decodes_images() -> None:
    heavy = "{'cv2', 'kornia_rs', 'matplotlib', 'pydicom', 'sklearn', 'tensorflow'}"
    program = f"import sys, cxr_pipeline.data.sources; print({heavy} & sys.modules.keys())"
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert printed == "set()\n"


def test_shared_sources_are_there(shared_data: Path) -> None:
    places = {
        "effusion": "class_folders",
        "nih_64_leaky": "class_folders",
        "nih": "nih",
        "nih28": "pixel_table",
        "medmnist": "medmnist",
    }
    for name, layout in places.items():
        check(layout, shared_data / name)
