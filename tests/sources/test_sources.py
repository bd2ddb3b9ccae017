"""Tests of the way into the layouts."""

from pathlib import Path

import pytest

from cxr_pipeline.errors import UserError
from cxr_pipeline.sources import LAYOUTS, check_source, read_source

CLASSES = {"nofinding": ("nofinding", "No Finding"), "effusion": ("effusion",)}


def check(layout: str, folder: Path) -> None:
    check_source("films", layout, folder, classes=CLASSES, task="effusion")


def test_read_source_hands_options_to_the_layout(tmp_path: Path) -> None:
    (tmp_path / "ill").mkdir()
    (tmp_path / "ill" / "12_0.png").write_text("film")
    listing = read_source("class_folders", tmp_path, patient_id=r"^(\d+)_")
    assert listing.films["patient_id"].tolist() == ["12"]


def test_a_source_that_is_there_passes(tmp_path: Path) -> None:
    (tmp_path / "ill").mkdir()
    (tmp_path / "ill" / "a.png").write_text("film")
    check("class_folders", tmp_path)


def test_the_message_says_what_was_expected_where_and_what_to_type(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        check("class_folders", tmp_path / "effusion")
    for part in (
        "effusion.sources.films.path: no folder at",
        str(tmp_path / "effusion"),
        "one folder per class (nofinding, effusion)",
        "--params raw=/path/to/films",
        "https://nihcc.app.box.com/v/ChestXray-NIHCC",
        "https://data.mendeley.com/datasets/rscbjbr9sj",
        "kedro run --env demo --pipeline=effusion",
    ):
        assert part in str(error.value)


@pytest.mark.parametrize("layout", ["class_folders", "nih"])
def test_a_folder_without_films(tmp_path: Path, layout: str) -> None:
    (tmp_path / "readme.txt").write_text("nothing yet")
    with pytest.raises(UserError, match=r"nothing to read in .*readme\.txt"):
        check(layout, tmp_path)


def test_a_file_in_the_folder_s_place(tmp_path: Path) -> None:
    (tmp_path / "films").write_text("no folder")
    with pytest.raises(UserError, match="a file, no folder,"):
        check("class_folders", tmp_path / "films")


def test_a_table_without_films(tmp_path: Path) -> None:
    (tmp_path / "Data_Entry_2017.csv").write_text("Image Index\n")
    (tmp_path / "images").mkdir()
    with pytest.raises(UserError, match="Data_Entry_2017"):
        check("nih", tmp_path)
    (tmp_path / "images" / "a.png").write_text("film")
    check("nih", tmp_path)


def test_phantoms_need_nothing(tmp_path: Path) -> None:
    check("phantoms", tmp_path / "absent")


def test_every_layout_of_the_configuration_can_be_read() -> None:
    from cxr_pipeline.config import ClassFolders, Nih, Phantoms

    named = {source.model_fields["layout"].annotation.__args__[0] for source in (ClassFolders, Nih, Phantoms)}
    assert named == set(LAYOUTS)


def test_shared_sources_are_there(shared_data: Path) -> None:
    for layout, name in [("class_folders", "effusion"), ("class_folders", "nih_64_leaky"), ("nih", "nih")]:
        check(layout, shared_data / name)
