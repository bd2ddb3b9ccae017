import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cxr_pipeline.evaluation.metrics import expected_calibration_error
from cxr_pipeline.report.figures import reliability


def legend(axes: object) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


@settings(deadline=None)
@given(
    arrays(float, st.integers(1, 60), elements=st.floats(0, 1, width=16)).flatmap(
        lambda probability: st.tuples(
            st.just(probability), arrays(bool, len(probability), elements=st.booleans()).map(lambda y: y.astype(float))
        )
    )
)
def test_reliability_bins_hold_every_image_and_add_up_to_the_calibration_error(images):
    probability, y_true = images
    bins = reliability.reliability_bins(y_true, probability)
    assert bins["n"].sum() == len(y_true)
    assert bins["probability"].is_monotonic_increasing
    assert (bins["low"] <= bins["observed"] + 1e-9).all()
    assert (bins["observed"] <= bins["high"] + 1e-9).all()
    distance = (bins["n"] * (bins["observed"] - bins["probability"]).abs()).sum() / len(y_true)
    assert distance == pytest.approx(expected_calibration_error(y_true, probability), abs=1e-9)


def test_reliability_draws_its_bins_and_counts_every_image(drawn_by):
    drawing = drawn_by(reliability)
    reliability.reliability([0, 1, np.nan], [0.2, 0.9, 0.5])
    upper, lower = drawing[0].axes
    points = upper.lines[1]
    assert list(zip(*points.get_data(), strict=True)) == [(0.2, 0), (0.9, 1)]
    assert "test images, 2 bins of 1" in legend(upper)
    assert sum(bar.get_height() for bar in lower.patches) == 2


def test_reliability_says_that_there_are_no_images(said_by):
    said = said_by(reliability)
    reliability.reliability([np.nan], [0.5])
    assert said == ["No reliability plot: no image has a known label."]
