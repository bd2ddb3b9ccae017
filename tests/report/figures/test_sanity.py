import copy
from typing import Any

import pytest

from cxr_pipeline.report.figures import sanity

REPORT: dict[str, Any] = {
    "task": "effusion",
    "phantom": False,
    "verdicts": [
        {
            "name": "chance",
            "passed": True,
            "measured": {"loss": 0.75},
            "expected": {"loss": 0.693, "at_least": 0.35, "at_most": 1.39},
            "epochs": [],
        },
        {
            "name": "overfitting",
            "passed": True,
            "measured": {"loss": 0.04, "auc": 1.0, "images": 48},
            "expected": {"loss": 0.05, "auc": 0.999},
            "epochs": [{"loss": 0.7, "auc": 0.5}, {"loss": 0.2, "auc": 0.9}, {"loss": 0.04, "auc": 1.0}],
        },
        {
            "name": "shuffled_labels",
            "passed": True,
            "measured": {"auc": 0.47, "images": 100},
            "expected": {"auc": 0.5, "at_least": 0.33, "at_most": 0.67},
            "epochs": [{"auc": 0.52}, {"auc": 0.47}],
        },
    ],
}


@pytest.fixture
def draw(drawn_by: Any) -> Any:
    figures = drawn_by(sanity)
    return lambda report: sanity.sanity_figure(report) or figures[-1]


@pytest.mark.parametrize("failed", [0, 1, 2])
def test_a_failure_stands_out_in_its_title(draw: Any, failed: int) -> None:
    report = copy.deepcopy(REPORT)
    report["verdicts"][failed]["passed"] = False
    chance, loss, _, shuffled = draw(report).axes
    titles = [axes.get_title(loc="left") for axes in (chance, loss, shuffled)]
    assert [title.endswith("FAILED") for title in titles] == [place == failed for place in range(3)]
    assert (chance, loss, shuffled)[failed]._left_title.get_color() == sanity.ORANGE


def test_the_measured_values_are_drawn(draw: Any) -> None:
    chance, loss, auc, shuffled = draw(REPORT).axes
    assert [text.get_text() for text in chance.texts] == ["0.693", "0.750"]
    assert [axes.lines[1].get_ydata().tolist() for axes in (loss, auc)] == [[0.7, 0.2, 0.04], [0.5, 0.9, 1.0]]
    assert shuffled.lines[1].get_ydata().tolist() == [0.52, 0.47]
    assert shuffled.lines[2].get_label() == "last: 0.470"


def test_phantom_images_are_labelled(draw: Any) -> None:
    titles = [draw(REPORT | {"phantom": flag}).get_suptitle() for flag in (False, True)]
    assert ["phantom" in title for title in titles] == [False, True]


def test_undefined_numbers_are_left_out() -> None:
    report = copy.deepcopy(REPORT)
    chance, few, shuffled = report["verdicts"]
    chance["measured"]["loss"] = None
    few["epochs"] = [{"loss": None, "auc": None}]
    shuffled["epochs"] = [{"auc": None}]
    shuffled["measured"]["auc"] = None
    shuffled["expected"] |= {"at_least": None, "at_most": None}
    assert sanity.sanity_figure(report).startswith(b"\x89PNG")
