from io import BytesIO

import numpy as np
import pandas as pd
from PIL import Image

from cxr_pipeline.evaluation.localisation import overlay
from cxr_pipeline.report.figures import images as pictures
from cxr_pipeline.report.figures.images import OUTCOMES, choose_images, heatmap_grid

Y_TRUE = np.array([1, 1, 0, 0, 1, 1, 0, 0, np.nan])
PROBABILITY = np.array([0.7, 0.9, 0.8, 0.6, 0.2, 0.1, 0.3, 0.05, 0.99])
PREDICTED = PROBABILITY >= 0.5
NO_BOX = np.empty((0, 4))


def images_and_maps(n, size=16):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (n, size, size)).astype(np.uint8), rng.random((n, size, size), np.float32)


def test_images_keep_their_greys():
    picture = Image.open(BytesIO(pictures.mistakes(np.full((1, 8, 8), 40, dtype=np.uint8), ["dark"])))
    assert (np.asarray(picture)[..., :3] == 40).all(axis=-1).sum() > 20_000


def test_without_images_the_figures_say_why(drawn):
    pictures.mistakes(np.zeros((0, 8, 8), np.uint8), [])
    pictures.augmentation_preview(np.zeros((0, 3, 8, 8), np.uint8))
    pictures.class_samples(np.zeros((0, 8, 8), np.uint8), [])
    heatmap_grid(pd.DataFrame({"kind": [], "position": [], "caption": []}), *images_and_maps(0), [])
    heatmap_grid(choose_images([np.nan], [0.5], [True]), *images_and_maps(0), [])
    assert drawn == ["No test image was misclassified.", "No image was augmented.", "No class has a training image.",
                     *["No heat maps: no test image has a known label."] * 2]  # fmt: skip


def test_the_most_confident_images_of_each_outcome_are_chosen():
    chosen = choose_images(Y_TRUE, PROBABILITY, PREDICTED)
    assert chosen["kind"].tolist() == [outcome for outcome in OUTCOMES for _ in range(2)]
    assert chosen["position"].tolist() == [1, 0, 2, 3, 5, 4, 7, 6]
    assert chosen["caption"].tolist()[:2] == ["0.900", "0.700"]
    assert choose_images(Y_TRUE, PROBABILITY, PREDICTED, limit=1)["position"].tolist() == [1, 2, 5, 7]


def test_the_grid_has_a_row_for_each_outcome_with_image_and_heat_map_side_by_side(drawn):
    chosen = choose_images(Y_TRUE, PROBABILITY, PREDICTED)
    images, maps = images_and_maps(len(chosen))
    heatmap_grid(chosen, images, maps, [NO_BOX] * len(chosen))
    panels = np.array(drawn[0].axes).reshape(4, 4)
    assert [row[0].get_title(loc="left") for row in panels] == list(OUTCOMES)
    for number, (plain, mapped) in enumerate(panels.reshape(8, 2)):
        np.testing.assert_array_equal(plain.images[0].get_array(), images[number])
        np.testing.assert_array_equal(mapped.images[0].get_array(), overlay(images[number], maps[number]))
        assert plain.get_xlabel() == chosen["caption"][number]


def test_outcomes_without_images_have_no_row_and_boxes_are_drawn_on_image_and_heat_map(drawn):
    chosen = choose_images([1, 1, 0], [0.9, 0.8, 0.1], [True, True, False])
    boxes = [np.array([[0.25, 0.5, 0.75, 1.0], [0, 0, 0.5, 0.5]]), NO_BOX, NO_BOX]
    heatmap_grid(chosen, *images_and_maps(3), boxes)
    axes = drawn[0].axes
    assert [len(each.images) for each in axes] == [1, 1, 1, 1, 1, 1, 0, 0]
    assert axes[4].get_title(loc="left") == "true negatives"
    assert [len(each.patches) for each in axes] == [2, 2, 0, 0, 0, 0, 0, 0]
    for box in (axes[0].patches[0], axes[1].patches[0]):
        assert (*box.get_xy(), box.get_width(), box.get_height()) == (3.5, 7.5, 8, 8)
