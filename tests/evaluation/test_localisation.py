import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import spearmanr

from cxr_pipeline.evaluation import localisation
from cxr_pipeline.evaluation.localisation import MEASURES, choose_explained, measure_maps, rank_correlation

UPPER_LEFT = [0.0, 0.0, 0.5, 0.5]


def points(*places, size=64):
    """A heat map that is zero except in some pixels."""
    heatmap = np.zeros((size, size), np.float32)
    for row, column, heat in places:
        heatmap[row, column] = heat
    return heatmap


def measures_of(heatmap, boxes):
    return measure_maps(heatmap[np.newaxis], [np.array(boxes, dtype=float)]).iloc[0]


@pytest.mark.parametrize(
    ("places", "boxes", "hit"),
    [
        # 15/224 of 64 pixels are 4.29; the box ends at 32, the centre of pixel 35 is 3.5 and that of 36 is 4.5 away.
        *(([(row, column, 1)], [UPPER_LEFT], 1) for row, column in ((10, 10), (31, 31), (31, 35), (34, 34))),
        *(([(row, column, 1)], [UPPER_LEFT], 0) for row, column in ((50, 50), (10, 50), (31, 36), (35, 35))),
        ([(60, 60, 1)], [UPPER_LEFT, [0.9, 0.9, 1, 1]], 1),
        # Left and right are columns, top and bottom are rows.
        ([(60, 2, 1)], [[0, 0.9, 0.1, 1]], 1),
        ([(2, 60, 1)], [[0, 0.9, 0.1, 1]], 0),
        # Pixels that share the maximum count by their fraction.
        ([(2, 2, 1), (60, 60, 1)], [UPPER_LEFT], 0.5),
        ([], [[0, 0, 1, 1]], 0),
    ],
)
def test_the_pointing_game_is_won_in_a_box_or_within_15_of_224_of_it(places, boxes, hit):
    measures = measures_of(points(*places), boxes)
    assert (measures["pointing_game"], measures["n_boxes"]) == (hit, len(boxes))


@settings(max_examples=40)
@given(st.lists(st.floats(0, 1), min_size=4, max_size=4, unique=True).map(sorted))
def test_heat_and_area_count_fractions_of_pixels_and_overlaps_once(sides):
    left, top, right, bottom = sides
    overlapping = [[left, top, right, bottom], [left, top, right, (top + bottom) / 2]]
    flat = measures_of(np.ones((7, 7), np.float32), overlapping)
    assert flat["box_area"] == pytest.approx((right - left) * (bottom - top))
    assert flat["heat_in_box"] == pytest.approx(flat["box_area"])
    assert measures_of(points((0, 0, 3), (3, 3, 1), size=4), [UPPER_LEFT])["heat_in_box"] == pytest.approx(0.75)
    assert measures_of(points(), [[0, 0, 1, 1]])["heat_in_box"] == 0


@settings(max_examples=40)
@given(
    arrays(np.float32, (8, 8), elements=st.floats(0, 1, width=32)),
    st.lists(st.lists(st.floats(0, 1), min_size=4, max_size=4, unique=True).map(sorted), min_size=1, max_size=3),
)
def test_each_measure_is_compared_with_that_of_a_centred_blob_and_of_a_flat_map(heatmap, boxes):
    measures = measures_of(heatmap, boxes)
    along = np.exp(-(((np.arange(8) - 3.5) / 8 / 0.25) ** 2) / 2)
    blob, flat = measures_of(np.outer(along, along), boxes), measures_of(np.ones((8, 8)), boxes)
    for name, at_random in (("pointing_game", "pointing_game_random"), ("heat_in_box", "box_area")):
        assert 0 <= measures[name] <= 1 + 1e-9
        assert measures[f"{name}_centred"] == blob[name]
        assert measures[at_random] == pytest.approx(flat[name])


def test_measures_are_averaged_with_intervals():
    maps = np.stack([points((row, row, 1)) for row in (2, 60, 3, 4)])
    measures = measure_maps(maps, [np.array([UPPER_LEFT])] * 3 + [np.array([UPPER_LEFT] * 2)])
    found = localisation.localise(measures, ["a", "a", "b", "c"], confidence=0.9)
    assert (found["n_images"], found["n_boxes"], found["box_area"]["value"]) == (4, 5, pytest.approx(0.25))
    assert set(found) == {"n_images", "n_boxes", *MEASURES}
    assert found["pointing_game"]["low"] < found["pointing_game"]["value"] == 0.75 < found["pointing_game"]["high"]
    assert measure_maps(maps[:0], []).columns.tolist() == ["n_boxes", *MEASURES]


@settings(max_examples=40)
@given(arrays(np.float32, (2, 5, 5), elements=st.sampled_from([0.0, 0.1, 0.2, 0.7, 1.0])))
def test_rank_correlation_is_spearmans(maps):
    flat = np.ptp(maps, axis=(1, 2)) == 0
    # Spearman's correlation is undefined for constant maps: only two of them agree.
    expected = float(flat.all()) if flat.any() else spearmanr(maps[0].ravel(), maps[1].ravel()).statistic
    assert rank_correlation(maps[:1], maps[1:])[0] == pytest.approx(expected, abs=1e-9)
    assert rank_correlation(np.zeros_like(maps), maps).tolist() == flat.tolist()
    # Large maps are compared at fewer points.
    smooth = np.broadcast_to(np.linspace(0, 1, 300, dtype=np.float32), (1, 300, 300))
    assert rank_correlation(smooth, smooth**2)[0] == pytest.approx(1)


def score_table(n_images, **columns):
    """Images with both labels, in an order that is not that of their hashes."""
    images = {"source": "nih", "sha256": [f"{(7 * number) % n_images:04d}" for number in range(n_images)]}
    return pd.DataFrame(images | {"patient_id": "1", "true_Mass": 1.0, "true_Nodule": 1.0} | columns)


def box_rows(sha256s, name="Mass"):
    return pd.DataFrame({"sha256": sha256s, "class": name, "left": 0.0, "top": 0.0, "right": 0.5, "bottom": 1.0})


def test_images_with_a_box_of_the_class_are_chosen_and_others_if_there_are_none():
    scores = score_table(300)
    in_order = sorted(scores["sha256"])

    few = choose_explained(scores, box_rows(["0003", "0001", "0003"]), ("Mass", "Nodule"))
    many = choose_explained(scores, box_rows(in_order), ("Mass",))

    assert few.columns.tolist() == ["sha256", "class", "output", "group"]
    mass, nodule = (few[few["class"] == name] for name in ("Mass", "Nodule"))
    assert mass["sha256"].tolist() == ["0001", "0003"]
    assert nodule["sha256"].tolist() == in_order[:32]
    assert (set(mass["output"]), set(nodule["output"])) == ({0}, {1})
    assert many["sha256"].tolist() == in_order[:200]


def test_a_box_that_contradicts_the_label_is_skipped_unless_the_label_is_unknown():
    scores = score_table(10, true_Mass=[0.0, np.nan] + [1.0] * 8, patient_id=[None] * 3 + ["1"] * 7)
    denied, unknown, third = scores["sha256"][:3]
    assert choose_explained(scores, box_rows([denied, unknown]), ("Mass",))["sha256"].tolist() == [unknown]
    others = choose_explained(scores, box_rows([denied]), ("Mass",)).set_index("sha256")["group"]
    assert set(others.index) == set(scores["sha256"][2:])
    # Images are grouped by patient if it is known.
    assert set(others) == {third, "nih/1"}


def test_boxes_are_those_of_the_image_and_the_class():
    rows = pd.concat([box_rows(["1", "1", "2"]), box_rows(["2"], "Nodule").assign(left=0.25)])
    found = localisation.boxes_of(rows, ["2", "1", "3", "2"], ["Mass", "Mass", "Mass", "Nodule"])
    assert [each.shape for each in found] == [(1, 4), (2, 4), (0, 4), (1, 4)]
    np.testing.assert_array_equal(found[3], [[0.25, 0, 0.5, 1]])


def test_without_heat_the_image_is_unchanged():
    image = np.random.default_rng(0).integers(0, 256, (16, 16)).astype(np.uint8)
    drawn = localisation.overlay(image, np.zeros((16, 16), np.float32))
    assert drawn.dtype == np.uint8
    np.testing.assert_array_equal(drawn, np.repeat(image[..., np.newaxis], 3, axis=2))
