import pytest

from cxr_pipeline.report.figures import drift

LIMITS = {"pixels": {"warn": 0.2, "refuse": 0.9}, "features": {"warn": 0.65, "refuse": None}}
HISTOGRAM = {"edges": [0.0, 0.5, 1.0], "reference": [0.5, 0.5], "new": [0.1, 0.9]}


def a_test(name, effect, *, verdict="none", p_holm=1.0):
    return {"name": name, "effect": effect, "verdict": verdict, "p_holm": p_holm, "histogram": HISTOGRAM}


def report_of(**families):
    named = [{"name": name, "tests": tests} for name, tests in families.items()]
    return {"alpha": 0.01, "limits": LIMITS, "families": named}


def test_drift_is_orange_significance_is_filled_and_effects_are_relative_to_their_limit(drawn_by):
    drawn = drawn_by(drift)
    pixels = [a_test("black_border", 0.5, verdict="warn", p_holm=0.001), a_test("noise", 0.1), a_test("contrast", 9.0)]
    drift.draw_effects(report_of(pixels=pixels, features=[a_test("all features", 0.8)]))
    axes = drawn[0].axes[0]
    points = [line for line in axes.lines if line.get_marker() == "o"]
    assert [point.get_xdata()[0] for point in points] == pytest.approx([2.5, 0.5, drift.LARGEST_EFFECT, 2.0])
    assert [point.get_color() for point in points[:2]] == [drift.ORANGE, drift.BLUE]
    assert [point.get_markerfacecolor() for point in points[:2]] == [drift.ORANGE, "white"]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["pixels: black border", "pixels: noise", "pixels: contrast", "features: all features"]


def test_distributions_show_drift_first_and_not_too_many(drawn_by):
    drawn = drawn_by(drift)
    pixels = [a_test(f"value_{n}", 0.1) for n in range(20)]
    drift.draw_distributions(report_of(pixels=pixels, features=[a_test("all", 0.9, verdict="refuse")]))
    titles = [axes.get_title(loc="left") for axes in drawn[0].axes]
    assert titles[:2] == ["features: all", "value 0"]
    assert len(titles) == drift.MOST_PANELS
    assert drift.draw_distributions(report_of(pixels=[])) is None
