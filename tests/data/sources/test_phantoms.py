from pathlib import Path

import pytest

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.sources.phantoms import read

OPTIONS = {"n_patients": 4, "size": 32, "prevalence": {"Effusion": 0.5}, "seed": 3}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "images").iterdir())}


def test_phantoms_are_generated_and_listed(tmp_path: Path) -> None:
    listing = read(tmp_path / "new" / "phantoms", **OPTIONS)
    assert listing.images["patient_id"].nunique() == 4
    assert listing.n_rows == len(listing.images) == len(contents(tmp_path / "new" / "phantoms"))
    assert listing.images[["view", "age", "sex"]].notna().all(axis=None)


def test_existing_phantoms_are_not_generated_again(tmp_path: Path) -> None:
    first = read(tmp_path / "phantoms", **OPTIONS)
    image = tmp_path / "phantoms" / first.images["path"].iloc[0]
    image.write_text("left as it is")
    read(tmp_path / "phantoms", **OPTIONS)
    assert image.read_text() == "left as it is"


def test_other_parameters_generate_other_phantoms(tmp_path: Path) -> None:
    read(tmp_path / "phantoms", **OPTIONS)
    first = contents(tmp_path / "phantoms")
    read(tmp_path / "phantoms", **{**OPTIONS, "seed": 4})
    second = contents(tmp_path / "phantoms")
    read(tmp_path / "phantoms", **OPTIONS)
    assert first != second
    assert contents(tmp_path / "phantoms") == first


def test_phantoms_of_a_killed_run_are_generated_again(tmp_path: Path) -> None:
    read(tmp_path / "phantoms", **OPTIONS)
    before = contents(tmp_path / "phantoms")
    (tmp_path / "phantoms" / "phantoms.json").unlink()
    next((tmp_path / "phantoms" / "images").iterdir()).unlink()
    assert read(tmp_path / "phantoms", **OPTIONS).n_missing == 0
    assert contents(tmp_path / "phantoms") == before


def test_a_folder_with_other_files_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match=str(tmp_path)):
        read(tmp_path, **OPTIONS)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(UserError, match="cannot be written"):
        read(tmp_path / "file" / "phantoms", **OPTIONS)
