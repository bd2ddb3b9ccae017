import numpy as np
import pandas as pd
from matplotlib.colors import to_hex

from cxr_pipeline.report.figures import intervals


def labels(axes):
    return [label.get_text() for label in axes.get_yticklabels()]


def texts(axes):
    return [text.get_text() for text in axes.texts]


def points(axes):
    """Return the value of each row and whether its point is hollow."""
    marks = [line for line in axes.lines if line.get_marker() == "o"]
    return {int(m.get_ydata()[0]): (m.get_xdata()[0], to_hex(m.get_markerfacecolor()) == "#ffffff") for m in marks}


def spans(axes):
    return [tuple(np.round(line.get_xdata(), 4)) for line in axes.lines if len(line.get_xdata()) == 2]


def test_class_auc_has_the_mean_first_then_the_highest_and_undefined_ones_last(drawn, measured):
    areas = {"Hernia": (None, None, None), "Nodule": (0.6, None, None), "Mass": (0.9, 0.8, 1.0)}
    per_class = {name: measured(auc=auc) for name, auc in areas.items()}
    metrics = {"metrics": measured(auc=(0.7, 0.6, 0.8)), "per_class": per_class}
    intervals.draw_class_auc({**metrics, "support": {key: {"n_positive": 1200} for key in areas}})
    axes = drawn[0].axes[0]
    assert labels(axes) == ["mean of 3", *(f"{name} (n = 1,200)" for name in ("Mass", "Nodule", "Hernia"))]
    assert texts(axes) == ["0.70 (0.60 to 0.80)", "0.90 (0.80 to 1.00)", "0.60", "not defined"]
    assert (0.8, 1.0) in spans(axes)
    assert points(axes)[1] == (0.9, False)


def cell(name, auc, **changed):
    row = {"cell": name, "is_baseline": False, "collapsed": False, "error": None}
    for metric, value in {"auc": auc, "accuracy": 0.75, "sensitivity": 0.8, "specificity": 0.6}.items():
        ends = (None, None, None) if auc is None else (value, value - 0.05, value + 0.05)
        row |= dict(zip((metric, f"{metric}_low", f"{metric}_high"), ends, strict=True))
    return row | changed


def test_cells_have_a_row_each_and_a_panel_for_each_metric(drawn):
    cells = [cell("baseline", 0.812, is_baseline=True), cell("plain loss", 0.7), cell("x", 0.9, collapsed=True)]
    cells += [cell("broken", None, error="died"), cell("undefined", None)]
    intervals.draw_cells(pd.DataFrame(cells))
    auc, *others = drawn[0].axes
    assert labels(auc) == ["baseline", "plain loss", "x (collapsed)", "broken (failed)", "undefined"]
    assert [axes.get_title(loc="left") for axes in drawn[0].axes] == ["AUC", "accuracy", "sensitivity", "specificity"]
    assert [points(auc)[row] for row in range(3)] == [(0.812, False), (0.7, False), (0.9, True)]
    assert [points(axes)[1][0] for axes in others] == [0.75, 0.8, 0.6]
    assert texts(auc) == ["0.81 (0.76 to 0.86)", "0.70 (0.65 to 0.75)", "0.90 (0.85 to 0.95)", "failed", "not defined"]
    assert {(0.762, 0.862), (0.65, 0.75)} <= set(spans(auc))
    for axes, value in zip(drawn[0].axes, (0.812, 0.75, 0.8, 0.6), strict=True):
        assert [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == "--"] == [value]
