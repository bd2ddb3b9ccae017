from pathlib import Path

import pytest
from kedro.io import DataCatalog, DatasetError

from cxr_pipeline.data.images.recipe import Recipe
from cxr_pipeline.data.images.store import PreparedFilms
from cxr_pipeline.framework.datasets.prepared_films import PreparedFilmsDataset

STEPS = ({"operation": "clahe", "clip_limit": 2.0, "tiles": 8},)


@pytest.fixture
def films(tmp_path: Path) -> PreparedFilms:
    return PreparedFilms(tmp_path / "images", Recipe(size=32, mode="fit", max_megapixels=50, steps=STEPS))


def test_a_handle_comes_back(films: PreparedFilms, tmp_path: Path) -> None:
    dataset = PreparedFilmsDataset(filepath=str(tmp_path / "deep" / "films.json"))
    dataset.save(films)
    assert dataset.load() == films
    assert dataset.load().digest == films.digest
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["films.json"]


def test_saving_again_overwrites(films: PreparedFilms, tmp_path: Path) -> None:
    dataset = PreparedFilmsDataset(filepath=str(tmp_path / "films.json"))
    dataset.save(films)
    other = PreparedFilms(films.folder, Recipe(size=64, mode="stretch", max_megapixels=50))
    dataset.save(other)
    assert dataset.load() == other


def test_a_missing_file_does_not_exist_and_cannot_be_loaded(tmp_path: Path) -> None:
    dataset = PreparedFilmsDataset(filepath=str(tmp_path / "films.json"))
    assert not dataset.exists()
    with pytest.raises(DatasetError, match=r"films\.json"):
        dataset.load()


def test_it_exists_only_with_the_folder_of_its_films(films: PreparedFilms, tmp_path: Path) -> None:
    dataset = PreparedFilmsDataset(filepath=str(tmp_path / "films.json"))
    dataset.save(films)
    assert not dataset.exists()
    films.store.folder.mkdir(parents=True)
    assert dataset.exists()
    films.store.folder.rmdir()
    assert not dataset.exists()


def test_the_catalog_knows_it(films: PreparedFilms, tmp_path: Path) -> None:
    entry = {
        "type": "cxr_pipeline.framework.datasets.prepared_films.PreparedFilmsDataset",
        "filepath": str(tmp_path / "films.json"),
        "metadata": {"kedro-viz": {"layer": "primary"}},
    }
    catalog = DataCatalog.from_config({"films": entry})
    catalog.save("films", films)
    assert catalog.load("films") == films
    assert "films.json" in str(catalog["films"])
