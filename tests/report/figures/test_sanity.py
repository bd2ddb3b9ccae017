import copy

import pytest

from cxr_pipeline.report.figures import sanity

EXPECTED = {
    "chance": {"loss": 0.693, "at_least": 0.35, "at_most": 1.39},
    "overfitting": {"loss": 0.05, "auc": 0.999},
    "shuffled_labels": {"auc": 0.5, "at_least": 0.33, "at_most": 0.67},
}
MEASURED = {"chance": {"loss": 0.75}, "overfitting": {"loss": 0.04, "auc": 1.0, "images": 48},
            "shuffled_labels": {"auc": 0.47, "images": 100}}  # fmt: skip
EPOCHS = {
    "chance": [],
    "overfitting": [{"loss": 0.7, "auc": 0.5}, {"loss": 0.2, "auc": 0.9}, {"loss": 0.04, "auc": 1.0}],
    "shuffled_labels": [{"auc": 0.52}, {"auc": 0.47}],
}


@pytest.fixture
def report():
    verdicts = [
        {"name": name, "passed": True, "measured": MEASURED[name], "expected": EXPECTED[name], "epochs": EPOCHS[name]}
        for name in EXPECTED
    ]
    return copy.deepcopy({"task": "effusion", "phantom": False, "verdicts": verdicts})


@pytest.fixture
def draw(drawn):
    return lambda report: sanity.sanity_figure(report) and drawn[-1]


def test_the_measured_values_are_drawn(draw, report):
    figure = draw(report)
    chance, loss, auc, shuffled = figure.axes
    assert [text.get_text() for text in chance.texts] == ["0.693", "0.750"]
    assert [axes.lines[1].get_ydata().tolist() for axes in (loss, auc)] == [[0.7, 0.2, 0.04], [0.5, 0.9, 1.0]]
    assert shuffled.lines[1].get_ydata().tolist() == [0.52, 0.47]
    assert shuffled.lines[2].get_label() == "last: 0.470"
    phantom = draw(report | {"phantom": True})
    assert ["phantom" in each.get_suptitle() for each in (figure, phantom)] == [False, True]


def test_undefined_numbers_are_left_out(report):
    chance, few, shuffled = report["verdicts"]
    chance["measured"]["loss"] = shuffled["measured"]["auc"] = None
    few["epochs"], shuffled["epochs"] = [{"loss": None, "auc": None}], [{"auc": None}]
    shuffled["expected"] |= {"at_least": None, "at_most": None}
    assert sanity.sanity_figure(report).startswith(b"\x89PNG")
