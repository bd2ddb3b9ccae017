from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from cxr_pipeline.report.figures import images as pictures


@pytest.fixture
def drawing(drawn_by):
    return drawn_by(pictures)


@pytest.fixture
def said(said_by):
    return said_by(pictures)


def pixels(png: bytes) -> np.ndarray:
    picture = Image.open(BytesIO(png))
    assert picture.format == "PNG"
    return np.asarray(picture)


def test_mistakes_show_each_image_with_its_caption(drawing):
    images = np.arange(4, dtype=np.uint8)[:, None, None] * np.full((4, 8, 8), 60, dtype=np.uint8)
    pictures.mistakes(images, ["one", "two", "three", "a caption that is longer than the image above it is wide"])
    shown = [axes for axes in drawing[0].axes if axes.images]
    assert [int(axes.images[0].get_array()[0, 0]) for axes in shown] == [0, 60, 120, 180]
    assert [axes.get_xlabel() for axes in shown[:3]] == ["one", "two", "three"]
    assert shown[3].get_xlabel().count("\n") == 2


def test_mistakes_take_a_caption_for_each_image():
    with pytest.raises(ValueError, match="shorter"):
        pictures.mistakes(np.zeros((2, 8, 8), dtype=np.uint8), ["one"])


def test_images_are_drawn_in_their_own_greys():
    dark = pixels(pictures.mistakes(np.full((1, 8, 8), 40, dtype=np.uint8), ["dark"]))
    assert (dark[..., :3] == 40).all(axis=-1).sum() > 20_000


def test_without_images_there_are_words(said):
    pictures.mistakes(np.zeros((0, 8, 8), dtype=np.uint8), [])
    pictures.augmentation_preview(np.zeros((0, 3, 8, 8), dtype=np.uint8))
    pictures.class_samples(np.zeros((0, 8, 8), dtype=np.uint8), [])
    assert len(said) == 3


def test_augmentation_preview_has_a_row_for_each_image_and_the_original_first(drawing):
    images = np.arange(6, dtype=np.uint8).reshape(2, 3, 1, 1) * np.full((1, 1, 8, 8), 40, dtype=np.uint8)
    pictures.augmentation_preview(images)
    axes = drawing[0].axes
    assert [int(panel.images[0].get_array()[0, 0]) for panel in axes] == [0, 40, 80, 120, 160, 200]
    assert [panel.get_title() for panel in axes] == ["original", "view 1", "view 2", "", "", ""]


def test_class_samples_show_each_image_above_its_name(drawing):
    images = np.arange(7, dtype=np.uint8)[:, None, None] * np.full((7, 8, 8), 20, dtype=np.uint8)
    names = [f"class {number}" for number in range(7)]
    pictures.class_samples(images, names)
    shown = [axes for axes in drawing[0].axes if axes.images]
    assert [int(axes.images[0].get_array()[0, 0]) for axes in shown] == [0, 20, 40, 60, 80, 100, 120]
    assert [axes.get_xlabel() for axes in shown] == names
    assert len(drawing[0].axes) == 10


def test_class_samples_take_a_name_for_each_image():
    with pytest.raises(ValueError, match="shorter"):
        pictures.class_samples(np.zeros((2, 8, 8), dtype=np.uint8), ["one"])
