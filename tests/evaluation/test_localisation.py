import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import spearmanr

from cxr_pipeline.evaluation.localisation import (
    MEASURES,
    boxes_of,
    centred_blob,
    choose_explained,
    localise,
    measure_maps,
    rank_correlation,
)

BOOTSTRAP = {"replicates": 50, "confidence": 0.9, "seed": 0}
UPPER_LEFT = np.array([[0.0, 0.0, 0.5, 0.5]])


def point(row: int, column: int, size: int = 64) -> np.ndarray:
    heatmap = np.zeros((size, size), np.float32)
    heatmap[row, column] = 1
    return heatmap


def measured(heatmap: np.ndarray, boxes: object) -> "pd.Series[float]":
    return measure_maps(heatmap[np.newaxis], [np.array(boxes, dtype=float)]).iloc[0]


def boxes_strategy(most: int = 3) -> st.SearchStrategy[np.ndarray]:
    side = st.tuples(st.floats(0, 0.9), st.floats(0.05, 1)).map(lambda s: (s[0], min(1.0, s[0] + s[1])))
    box = st.tuples(side, side).map(lambda s: (s[0][0], s[1][0], s[0][1], s[1][1]))
    return st.lists(box, min_size=1, max_size=most).map(np.array)


@pytest.mark.parametrize(
    ("row", "column", "hit"),
    [(10, 10, 1), (50, 50, 0), (10, 50, 0), (31, 31, 1), (31, 35, 1), (31, 36, 0), (34, 34, 1), (35, 35, 0)],
)
def test_the_pointing_game_is_won_in_a_box_or_15_of_224_beside_it(row: int, column: int, hit: int) -> None:
    # 15/224 of 64 pixels are 4.29; the box ends at 32, the centre of pixel 35 is 3.5 and that of 36 is 4.5 away.
    assert measured(point(row, column), UPPER_LEFT)["pointing_game"] == hit


def test_any_of_a_images_boxes_will_do() -> None:
    found = measured(point(60, 60), [*UPPER_LEFT, [0.9, 0.9, 1, 1]])
    assert found["pointing_game"] == 1
    assert found["n_boxes"] == 2


def test_left_is_across_and_top_is_down() -> None:
    assert measured(point(60, 2), [[0, 0.9, 0.1, 1]])["pointing_game"] == 1
    assert measured(point(2, 60), [[0, 0.9, 0.1, 1]])["pointing_game"] == 0


def test_of_pixels_that_share_the_maximum_the_fraction_counts_that_hits() -> None:
    assert measured(np.maximum(point(2, 2), point(60, 60)), UPPER_LEFT)["pointing_game"] == 0.5
    flat = measured(np.ones((64, 64), np.float32), UPPER_LEFT)
    assert flat["pointing_game"] == flat["pointing_game_random"]


def test_a_map_of_zeros_points_nowhere_and_has_no_heat() -> None:
    found = measured(np.zeros((16, 16), np.float32), [[0, 0, 1, 1]])
    assert (found["pointing_game"], found["heat_in_box"]) == (0, 0)


def test_heat_and_area_count_parts_of_pixels_and_overlaps_once() -> None:
    flat = np.ones((4, 4), np.float32)
    assert measured(flat, [[0, 0, 0.125, 0.5]])["heat_in_box"] == pytest.approx(1 / 16)
    assert measured(flat, [[0, 0, 0.5, 0.5], [0, 0, 0.5, 0.25]])["box_area"] == pytest.approx(0.25)
    assert measured(3 * point(0, 0, 4) + point(3, 3, 4), UPPER_LEFT)["heat_in_box"] == pytest.approx(0.75)


def test_the_centred_blob_wins_where_the_box_lies_in_the_middle() -> None:
    middle, corner = (measured(point(0, 0), [box]) for box in ([0.4, 0.4, 0.6, 0.6], [0, 0, 0.2, 0.2]))
    assert (middle["pointing_game_centred"], corner["pointing_game_centred"]) == (1, 0)
    assert middle["heat_in_box_centred"] > middle["box_area"]
    assert corner["heat_in_box_centred"] < corner["box_area"]


def test_a_blob_lies_in_the_middle_and_falls_off_over_a_quarter_of_the_side() -> None:
    blob = centred_blob(101)
    assert np.unravel_index(blob.argmax(), blob.shape) == (50, 50)
    np.testing.assert_allclose(blob, blob.T)
    np.testing.assert_allclose(blob, blob[::-1])
    assert centred_blob(400)[200, 300] == pytest.approx(np.exp(-0.5), rel=0.01)


@given(arrays(np.float32, (8, 8), elements=st.floats(0, 1, width=32)), boxes_strategy())
def test_measures_lie_between_0_and_1_and_turn_with_the_image(heatmap: np.ndarray, boxes: np.ndarray) -> None:
    found = measured(heatmap, boxes)
    assert found[list(MEASURES)].between(0, 1 + 1e-9).all()
    mirrored = measured(heatmap[:, ::-1], np.stack([1 - boxes[:, 2], boxes[:, 1], 1 - boxes[:, 0], boxes[:, 3]], 1))
    pd.testing.assert_series_equal(found, mirrored, atol=1e-6)


@given(boxes_strategy(most=1))
def test_the_area_of_a_box_is_exact(boxes: np.ndarray) -> None:
    left, top, right, bottom = boxes[0]
    found = measured(np.ones((7, 7), np.float32), boxes)
    assert found["box_area"] == pytest.approx((right - left) * (bottom - top))
    assert found["heat_in_box"] == pytest.approx(found["box_area"])


def test_no_image_gives_no_row() -> None:
    assert measure_maps(np.empty((0, 8, 8), np.float32), []).columns.tolist() == ["n_boxes", *MEASURES]


def test_localise_gives_means_with_intervals() -> None:
    maps = np.stack([point(2, 2), point(60, 60), point(3, 3), point(4, 4)])
    table = measure_maps(maps, [UPPER_LEFT, UPPER_LEFT, UPPER_LEFT, np.tile(UPPER_LEFT, (2, 1))])
    found = localise(table, ["a", "a", "b", "c"], **BOOTSTRAP)
    assert (found["n_images"], found["n_boxes"]) == (4, 5)
    assert set(found) == {"n_images", "n_boxes", *MEASURES}
    assert found["pointing_game"]["value"] == 0.75
    assert found["box_area"]["value"] == pytest.approx(0.25)
    assert found["pointing_game"]["low"] <= 0.75 <= found["pointing_game"]["high"]


@given(arrays(np.float32, (2, 5, 5), elements=st.sampled_from([0.0, 0.1, 0.2, 0.7, 1.0])))
def test_rank_correlation_is_spearmans(maps: np.ndarray) -> None:
    found = rank_correlation(maps[:1], maps[1:])
    if all(np.ptp(one) > 0 for one in maps):
        assert found[0] == pytest.approx(spearmanr(maps[0].ravel(), maps[1].ravel()).statistic, abs=1e-9)
    assert rank_correlation(maps, maps) == pytest.approx([1, 1])


def test_a_flat_map_agrees_with_a_flat_one_alone() -> None:
    flat, other = np.zeros((1, 8, 8), np.float32), np.random.default_rng(0).random((1, 8, 8), np.float32)
    assert rank_correlation(flat, flat)[0] == 1
    assert rank_correlation(flat, other)[0] == 0
    assert rank_correlation(other, -other)[0] == pytest.approx(-1)


def test_large_maps_are_compared_at_fewer_points() -> None:
    rows = np.linspace(0, 1, 300, dtype=np.float32)
    smooth = np.broadcast_to(rows, (1, 300, 300))
    assert rank_correlation(smooth, smooth**2)[0] == pytest.approx(1)


def table(n: int, outputs: tuple[str, ...] = ("Mass", "Nodule"), **columns: object) -> pd.DataFrame:
    images = {"source": "nih", "sha256": [f"{(7 * image) % n:04d}" for image in range(n)], "patient_id": "1"}
    return pd.DataFrame(images | {f"true_{name}": 1.0 for name in outputs} | columns)


def box_rows(sha256s: list[str], name: str = "Mass") -> pd.DataFrame:
    return pd.DataFrame({"sha256": sha256s, "class": name, "left": 0.0, "top": 0.0, "right": 0.5, "bottom": 1.0})


def test_images_with_a_box_of_the_class_are_explained_and_others_where_there_are_none() -> None:
    chosen = choose_explained(table(10), box_rows(["0003", "0001", "0003"]), ("Mass", "Nodule"))
    assert chosen.columns.tolist() == ["sha256", "class", "output", "group"]
    mass, nodule = (chosen[chosen["class"] == name] for name in ("Mass", "Nodule"))
    assert mass["sha256"].tolist() == ["0001", "0003"]
    assert (mass["output"] == 0).all()
    assert nodule["sha256"].tolist() == [f"{image:04d}" for image in range(10)]
    assert (nodule["output"] == 1).all()


def test_the_images_of_lowest_hash_are_taken_up_to_the_limit() -> None:
    scores = table(300)
    chosen = choose_explained(scores, box_rows(scores["sha256"].tolist()), ("Mass", "Nodule"))
    mass, nodule = (chosen.loc[chosen["class"] == name, "sha256"].tolist() for name in ("Mass", "Nodule"))
    assert mass == sorted(scores["sha256"])[:200]
    assert nodule == sorted(scores["sha256"])[:32]


def test_a_box_that_the_label_contradicts_does_not_count_and_one_of_an_unknown_label_does() -> None:
    scores = table(10, true_Mass=[0.0, np.nan] + [1.0] * 8)
    denied, unknown = scores["sha256"][0], scores["sha256"][1]
    chosen = choose_explained(scores, box_rows([denied, unknown]), ("Mass",))
    assert chosen["sha256"].tolist() == [unknown]
    only_denied = choose_explained(scores, box_rows([denied]), ("Mass",))
    assert set(only_denied["sha256"]) == set(scores["sha256"][2:])


def test_images_go_by_patient_or_alone_where_no_patient_is_known() -> None:
    scores = table(4, patient_id=["1", "1", None, None])
    chosen = choose_explained(scores, box_rows([]), ("Mass",)).set_index("sha256")["group"]
    known, alone = scores["sha256"][:2], scores["sha256"][2:]
    assert set(chosen[known]) == {"nih/1"}
    assert chosen[alone].tolist() == alone.tolist()


def test_boxes_are_those_of_the_image_and_of_the_class_asked_about() -> None:
    boxes = pd.concat([box_rows(["1", "1", "2"]), box_rows(["2"], "Nodule").assign(left=0.25)])
    found = boxes_of(boxes, ["2", "1", "3", "2"], ["Mass", "Mass", "Mass", "Nodule"])
    assert [len(one) for one in found] == [1, 2, 0, 1]
    assert found[2].shape == (0, 4)
    np.testing.assert_array_equal(found[3], [[0.25, 0, 0.5, 1]])
