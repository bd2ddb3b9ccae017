from io import BytesIO

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from matplotlib.figure import Figure
from PIL import Image

from cxr_pipeline.evaluation.overlay import overlay
from cxr_pipeline.report.figures import heatmaps
from cxr_pipeline.report.figures.heatmaps import KINDS, choose_images, heatmap_grid

Y_TRUE = np.array([1, 1, 0, 0, 1, 1, 0, 0, np.nan])
PROBABILITY = np.array([0.7, 0.9, 0.8, 0.6, 0.2, 0.1, 0.3, 0.05, 0.99])
CALLED = PROBABILITY >= 0.5
NO_BOX = np.empty((0, 4))


@pytest.fixture
def drawing(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Keeps each figure that is drawn instead of turning it into bytes."""
    kept: list[Figure] = []

    def keep(figure: Figure) -> bytes:
        kept.append(figure)
        return b""

    monkeypatch.setattr(heatmaps, "png", keep)
    return kept


def material(n: int, size: int = 16) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (n, size, size)).astype(np.uint8), rng.random((n, size, size), np.float32)


def test_the_surest_images_of_each_kind_come_first() -> None:
    chosen = choose_images(Y_TRUE, PROBABILITY, CALLED)
    assert chosen["kind"].tolist() == [kind for kind in KINDS for _ in range(2)]
    assert chosen["position"].tolist() == [1, 0, 2, 3, 5, 4, 7, 6]
    assert chosen["caption"].tolist()[:2] == ["0.900", "0.700"]


def test_no_more_than_the_limit_is_chosen_and_what_is_decided_counts() -> None:
    chosen = choose_images(Y_TRUE, PROBABILITY, CALLED, limit=1)
    assert chosen["position"].tolist() == [1, 2, 5, 7]
    everything = choose_images(Y_TRUE, PROBABILITY, np.ones(9, bool), limit=9)
    assert set(everything["kind"]) == {"true positives", "false positives"}


@given(st.data(), st.integers(1, 20), st.integers(1, 4))
def test_a_image_is_chosen_once_and_under_its_own_kind(data: st.DataObject, n: int, limit: int) -> None:
    true = data.draw(arrays(float, n, elements=st.sampled_from([0.0, 1.0, np.nan])))
    scores, called = data.draw(arrays(float, n, elements=st.floats(0, 1))), data.draw(arrays(bool, n))
    chosen = choose_images(true, scores, called, limit)
    assert chosen["position"].is_unique
    for kind, images in chosen.groupby("kind"):
        right = "true" in str(kind)
        assert len(images) <= limit
        assert (called[images["position"]] == ("positives" in str(kind))).all()
        assert ((true[images["position"]] == called[images["position"]]) == right).all()


def test_without_heat_the_image_shows_as_it_is() -> None:
    image = material(1)[0][0]
    found = overlay(image, np.zeros((16, 16), np.float32))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, np.repeat(image[..., np.newaxis], 3, axis=2))


def test_the_image_shows_through_the_strongest_heat() -> None:
    dark, bright = (overlay(np.full((4, 4), grey, np.uint8), np.ones((4, 4))) for grey in (0, 255))
    # Viridis ends in (253, 231, 37).
    np.testing.assert_array_equal(dark[0, 0], np.rint(0.6 * np.array([253.2, 231.1, 36.7])))
    assert (bright.astype(int) - dark == 102).all()


@given(arrays(np.uint8, (3, 3)), arrays(np.float32, (3, 3), elements=st.floats(0, 1, width=32)))
def test_heat_keeps_the_order_of_greys(image: np.ndarray, heat: np.ndarray) -> None:
    brighter = overlay(np.maximum(image, 200), heat).astype(int)
    assert (brighter >= overlay(image, heat)).all()


def test_the_grid_has_a_row_for_each_kind_with_image_and_overlay_side_by_side(drawing: list[Figure]) -> None:
    chosen = choose_images(Y_TRUE, PROBABILITY, CALLED)
    images, maps = material(len(chosen))
    heatmap_grid(chosen, images, maps, [NO_BOX] * len(chosen))
    panels = np.array(drawing[0].axes).reshape(4, 4)
    assert [row[0].get_title(loc="left") for row in panels] == list(KINDS)
    for number in range(len(chosen)):
        plain, laid_over = panels[number // 2, 2 * (number % 2) : 2 * (number % 2) + 2]
        np.testing.assert_array_equal(plain.images[0].get_array(), images[number])
        np.testing.assert_array_equal(laid_over.images[0].get_array(), overlay(images[number], maps[number]))
        assert plain.get_xlabel() == chosen["caption"][number]


def test_kinds_without_images_take_no_room(drawing: list[Figure]) -> None:
    chosen = choose_images([1, 1, 0], [0.9, 0.8, 0.1], [True, True, False])
    heatmap_grid(chosen, *material(3), [NO_BOX] * 3)
    panels = np.array(drawing[0].axes).reshape(2, 4)
    assert [len(axes.images) for axes in panels.flat] == [1, 1, 1, 1, 1, 1, 0, 0]
    assert panels[1, 0].get_title(loc="left") == "true negatives"


def test_boxes_are_drawn_where_they_are_on_image_and_overlay(drawing: list[Figure]) -> None:
    chosen = choose_images([1, 0], [0.9, 0.1], [True, False])
    boxes = [np.array([[0.25, 0.5, 0.75, 1.0], [0, 0, 0.5, 0.5]]), NO_BOX]
    heatmap_grid(chosen, *material(2), boxes)
    counts = [len(axes.patches) for axes in drawing[0].axes]
    assert counts == [2, 2, 0, 0]
    for axes in drawing[0].axes[:2]:
        assert axes.patches[0].get_xy() == (3.5, 7.5)
        assert (axes.patches[0].get_width(), axes.patches[0].get_height()) == (8, 8)


def test_the_grid_is_a_png_that_depends_on_the_images_alone() -> None:
    chosen = choose_images(np.repeat(Y_TRUE[:8], 2), np.repeat(PROBABILITY[:8], 2), np.repeat(CALLED[:8], 2))
    assert len(chosen) == 16
    images, maps = material(16)
    boxes = [NO_BOX] * 16
    first, again = (heatmap_grid(chosen, images, maps, boxes) for _ in range(2))
    assert first == again
    picture = Image.open(BytesIO(first))
    assert picture.format == "PNG"
    assert picture.width == 1152
    assert 600 < picture.height < 1200
    assert heatmap_grid(chosen, images, 1 - maps, boxes) != first


def test_without_images_the_picture_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(heatmaps, "words", lambda text: said.append(text) or b"")
    empty = pd.DataFrame({"kind": [], "position": [], "caption": []})
    heatmap_grid(empty, *material(0), [])
    heatmap_grid(choose_images([np.nan], [0.5], [True]), *material(0), [])
    assert said == ["No heat maps: no test image has a known label."] * 2
