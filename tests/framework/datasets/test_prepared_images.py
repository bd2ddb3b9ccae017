from pathlib import Path

import pytest
from kedro.io import DatasetError

from cxr_pipeline.data.images.recipe import Recipe
from cxr_pipeline.data.images.store import PreparedImages
from cxr_pipeline.framework.datasets.prepared_images import PreparedImagesDataset

STEPS = ({"operation": "clahe", "clip_limit": 2.0, "tiles": 8},)


@pytest.fixture
def images(tmp_path: Path) -> PreparedImages:
    return PreparedImages(tmp_path / "images", Recipe(size=32, mode="fit", max_megapixels=50, steps=STEPS))


def test_a_handle_is_saved_and_loaded(images: PreparedImages, tmp_path: Path) -> None:
    dataset = PreparedImagesDataset(filepath=str(tmp_path / "deep" / "images.json"))
    with pytest.raises(DatasetError, match=r"images\.json"):
        dataset.load()
    dataset.save(PreparedImages(images.root, Recipe(size=64, mode="stretch", max_megapixels=50)))
    dataset.save(images)
    assert dataset.load() == images
    assert dataset.load().digest == images.digest
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["images.json"]


def test_it_exists_only_with_the_folder_of_its_images(images: PreparedImages, tmp_path: Path) -> None:
    dataset = PreparedImagesDataset(filepath=str(tmp_path / "images.json"))
    dataset.save(images)
    assert not dataset.exists()
    images.folder.mkdir(parents=True)
    assert dataset.exists()
    images.folder.rmdir()
    assert not dataset.exists()
