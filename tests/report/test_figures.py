from io import BytesIO

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from matplotlib.figure import Figure
from PIL import Image

from cxr_pipeline.metrics import expected_calibration_error
from cxr_pipeline.report import figures

CLASSES = ("nofinding", "effusion")
METRICS = {
    "auc": {"value": 0.889, "low": 0.851, "high": 0.924},
    "average_precision": {"value": 0.871, "low": None, "high": None},
}
Y_TRUE = np.array([0, 0, 0, 1, 1, 1, np.nan])
PROBABILITY = np.array([0.1, 0.2, 0.7, 0.4, 0.8, 0.9, 0.5])


@pytest.fixture
def drawing(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Keeps each figure that is drawn instead of turning it into bytes."""
    kept: list[Figure] = []

    def keep(figure: Figure) -> bytes:
        kept.append(figure)
        return b""

    monkeypatch.setattr(figures, "png", keep)
    return kept


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keeps what figures say that have nothing to draw."""
    kept: list[str] = []
    monkeypatch.setattr(figures, "words", lambda text: kept.append(text) or b"")
    return kept


def history(**columns: list[object]) -> pd.DataFrame:
    rows = {
        "phase": ["frozen", "frozen", "fine_tuning"],
        "epoch": [1, 2, 3],
        "loss": [0.6, 0.4, 0.3],
        "val_loss": [0.5, 0.45, 0.48],
        "val_auc": [0.7, 0.8, 0.9],
    }
    return pd.DataFrame({**rows, **columns})


def legend(axes: object) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


def pixels(png: bytes) -> np.ndarray:
    picture = Image.open(BytesIO(png))
    assert picture.format == "PNG"
    return np.asarray(picture)


def test_draw_scores_gives_five_pictures_whose_bytes_depend_on_the_data_alone():
    first, again = (figures.draw_scores(Y_TRUE, PROBABILITY, 0.5, classes=CLASSES, metrics=METRICS) for _ in range(2))
    assert list(first) == ["roc", "precision_recall", "reliability", "score_histogram", "confusion"]
    assert first == again
    other = figures.draw_scores(Y_TRUE, 1 - PROBABILITY, 0.5, classes=CLASSES, metrics=METRICS)
    for name, png in first.items():
        height, width, _ = pixels(png).shape
        assert width == 768
        assert 600 < height < 1000
        assert other[name] != png


def test_roc_goes_through_the_points_counted_by_hand(drawing):
    figures.roc(Y_TRUE, PROBABILITY, 0.5, auc=METRICS["auc"])
    curve, _guessing, point = drawing[0].axes[0].lines
    assert {(0, 0), (0, 2 / 3), (1 / 3, 2 / 3), (1 / 3, 1), (1, 1)} <= set(zip(*curve.get_data(), strict=True))
    assert (point.get_xdata()[0], point.get_ydata()[0]) == (1 / 3, 2 / 3)
    assert legend(drawing[0].axes[0]) == ["AUC 0.889\n(0.851 to 0.924)", "guessing", "threshold 0.500"]


def test_a_film_on_the_threshold_counts_as_called(drawing):
    figures.roc([0, 1], [0.2, 0.5], 0.5, auc=METRICS["auc"])
    assert drawing[0].axes[0].lines[2].get_ydata()[0] == 1


def test_precision_recall_shows_precision_at_the_threshold_and_the_share_of_positives(drawing):
    figures.precision_recall(Y_TRUE, PROBABILITY, 0.3, average_precision=METRICS["average_precision"])
    curve, guessing, point = drawing[0].axes[0].lines
    assert (point.get_xdata()[0], point.get_ydata()[0]) == (1, 3 / 4)
    assert (1, 3 / 4) in set(zip(*curve.get_data(), strict=True))
    assert guessing.get_ydata()[0] == 0.5
    assert legend(drawing[0].axes[0])[0] == "average precision 0.871"


def test_precision_recall_has_no_point_where_nothing_is_called_positive(drawing):
    figures.precision_recall(Y_TRUE, PROBABILITY, 0.95, average_precision=METRICS["average_precision"])
    assert len(drawing[0].axes[0].lines) == 2


@pytest.mark.parametrize("label", [0, 1])
def test_curves_say_that_they_need_both_classes(said, label):
    figures.roc([label] * 3, [0.1, 0.2, 0.3], 0.5, auc=METRICS["auc"])
    figures.precision_recall([label] * 3, [0.1, 0.2, 0.3], 0.5, average_precision=METRICS["average_precision"])
    assert len(said) == 2
    assert all("both classes" in text for text in said)


@settings(deadline=None)
@given(
    arrays(float, st.integers(1, 60), elements=st.floats(0, 1, width=16)).flatmap(
        lambda probability: st.tuples(
            st.just(probability), arrays(bool, len(probability), elements=st.booleans()).map(lambda y: y.astype(float))
        )
    )
)
def test_reliability_bins_hold_every_film_and_add_up_to_the_calibration_error(films):
    probability, y_true = films
    bins = figures.reliability_bins(y_true, probability)
    assert bins["n"].sum() == len(y_true)
    assert bins["probability"].is_monotonic_increasing
    assert (bins["low"] <= bins["observed"] + 1e-9).all()
    assert (bins["observed"] <= bins["high"] + 1e-9).all()
    distance = (bins["n"] * (bins["observed"] - bins["probability"]).abs()).sum() / len(y_true)
    assert distance == pytest.approx(expected_calibration_error(y_true, probability), abs=1e-9)


def test_reliability_draws_its_bins_and_counts_every_film(drawing):
    figures.reliability([0, 1, np.nan], [0.2, 0.9, 0.5])
    upper, lower = drawing[0].axes
    points = upper.lines[1]
    assert list(zip(*points.get_data(), strict=True)) == [(0.2, 0), (0.9, 1)]
    assert "test films, 2 bins of 1" in legend(upper)
    assert sum(bar.get_height() for bar in lower.patches) == 2


def test_reliability_and_confusion_say_that_there_are_no_films(said):
    figures.reliability([np.nan], [0.5])
    figures.confusion([np.nan], [0.5], 0.5, classes=CLASSES)
    assert len(said) == 2


def test_score_histogram_counts_each_class_above_its_name(drawing):
    figures.score_histogram(Y_TRUE, PROBABILITY, 0.5, classes=CLASSES)
    upper, lower = drawing[0].axes
    assert upper.get_title(loc="left") == "effusion (n = 3)"
    assert lower.get_title(loc="left") == "nofinding (n = 3)"
    filled = [bar.get_x() for bar in upper.patches if bar.get_height()]
    assert filled == pytest.approx([0.4, 0.8, 0.9])
    assert [axes.lines[0].get_xdata()[0] for axes in (upper, lower)] == [0.5, 0.5]


def test_confusion_counts_by_true_class_and_decision(drawing):
    figures.confusion(Y_TRUE, PROBABILITY, 0.15, classes=CLASSES)
    axes = drawing[0].axes[0]
    assert [text.get_text() for text in axes.texts] == ["1\n33.3 %", "2\n66.7 %", "0\n0.0 %", "3\n100.0 %"]
    assert [text.get_text() for text in axes.get_yticklabels()] == list(CLASSES)


def test_confusion_says_where_a_class_has_no_films(drawing):
    figures.confusion([1, 1], [0.2, 0.8], 0.5, classes=CLASSES)
    texts = [text.get_text() for text in drawing[0].axes[0].texts]
    assert texts == ["no films", "no films", "1\n50.0 %", "1\n50.0 %"]


@pytest.mark.parametrize("epoch", [2, 3])
def test_training_curves_mark_the_epoch_that_was_kept_and_the_phases(drawing, epoch):
    figures.training_curves(history(), kept=epoch)
    upper, lower = drawing[0].axes
    assert legend(lower) == [f"kept: epoch {epoch}"]
    assert [text.get_text() for text in upper.texts] == ["frozen", "fine tuning"]
    assert upper.lines[0].get_ydata().tolist() == [0.6, 0.4, 0.3]
    assert upper.lines[1].get_ydata().tolist() == [0.5, 0.45, 0.48]
    assert lower.lines[0].get_ydata().tolist() == [0.7, 0.8, 0.9]


def test_training_curves_of_one_epoch_and_of_an_auc_that_is_not_defined():
    one = figures.training_curves(history().head(1), kept=1)
    undefined = figures.training_curves(history(val_auc=[np.nan] * 3), kept=3)
    assert pixels(one).shape == pixels(undefined).shape
    assert one != undefined


def test_rank_mistakes_puts_the_farthest_from_the_threshold_first():
    worst = figures.rank_mistakes([1, 0, 1, 0, np.nan], [0.3, 0.9, 0.1, 0.2, 0.99], 0.5, classes=CLASSES)
    assert worst["position"].tolist() == [1, 2, 0]
    assert worst["caption"].tolist() == [
        "nofinding called effusion, 0.900",
        "effusion called nofinding, 0.100",
        "effusion called nofinding, 0.300",
    ]


def test_a_low_threshold_does_not_hide_the_films_that_were_missed():
    worst = figures.rank_mistakes([1, 0], [0.001, 0.5], 0.1, classes=CLASSES, limit=1)
    assert worst["position"].tolist() == [0]


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([0.0, 1.0, np.nan]), st.floats(0, 1)), max_size=30),
    st.floats(0, 1),
    st.integers(0, 9),
)
def test_rank_mistakes_gives_wrong_films_only_and_as_many_as_there_are(films, threshold, limit):
    y_true, probability = np.array([y for y, _ in films]), np.array([p for _, p in films])
    positions = figures.rank_mistakes(y_true, probability, threshold, classes=CLASSES, limit=limit)["position"]
    wrong = {place for place, (y, p) in enumerate(films) if not np.isnan(y) and (p >= threshold) != (y == 1)}
    assert set(positions) <= wrong
    assert len(positions) == min(limit, len(wrong))


def test_mistakes_show_each_film_with_its_caption(drawing):
    films = np.arange(4, dtype=np.uint8)[:, None, None] * np.full((4, 8, 8), 60, dtype=np.uint8)
    figures.mistakes(films, ["one", "two", "three", "a caption that is longer than the film above it is wide"])
    shown = [axes for axes in drawing[0].axes if axes.images]
    assert [int(axes.images[0].get_array()[0, 0]) for axes in shown] == [0, 60, 120, 180]
    assert [axes.get_xlabel() for axes in shown[:3]] == ["one", "two", "three"]
    assert shown[3].get_xlabel().count("\n") == 2


def test_mistakes_take_a_caption_for_each_film():
    with pytest.raises(ValueError, match="shorter"):
        figures.mistakes(np.zeros((2, 8, 8), dtype=np.uint8), ["one"])


def test_films_are_drawn_in_their_own_greys():
    dark = pixels(figures.mistakes(np.full((1, 8, 8), 40, dtype=np.uint8), ["dark"]))
    assert (dark[..., :3] == 40).all(axis=-1).sum() > 20_000


def test_without_films_there_are_words(said):
    figures.mistakes(np.zeros((0, 8, 8), dtype=np.uint8), [])
    figures.augmentation_preview(np.zeros((0, 3, 8, 8), dtype=np.uint8))
    assert len(said) == 2


def test_augmentation_preview_has_a_row_for_each_film_and_the_original_first(drawing):
    films = np.arange(6, dtype=np.uint8).reshape(2, 3, 1, 1) * np.full((1, 1, 8, 8), 40, dtype=np.uint8)
    figures.augmentation_preview(films)
    axes = drawing[0].axes
    assert [int(panel.images[0].get_array()[0, 0]) for panel in axes] == [0, 40, 80, 120, 160, 200]
    assert [panel.get_title() for panel in axes] == ["original", "view 1", "view 2", "", "", ""]
