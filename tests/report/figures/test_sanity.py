import copy
from typing import Any

import cv2
import numpy as np
import pytest

from cxr_pipeline.report.figures.sanity import sanity_figure
from cxr_pipeline.report.figures.style import ORANGE

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


def pixels(png: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def orange(png: bytes) -> np.ndarray:
    """Return where the colour of a failure is [h, w]."""
    color = [int(ORANGE[start : start + 2], 16) for start in (1, 3, 5)]
    return (np.abs(pixels(png).astype(int) - color) < 8).all(axis=-1)


def test_the_same_report_gives_the_same_bytes() -> None:
    drawn = sanity_figure(REPORT)
    assert drawn == sanity_figure(copy.deepcopy(REPORT))
    height, width, _ = pixels(drawn).shape
    assert width > 2 * height


@pytest.mark.parametrize("failed", [0, 1, 2])
def test_a_failure_stands_out_in_its_panel(failed: int) -> None:
    report = copy.deepcopy(REPORT)
    assert not orange(sanity_figure(report)).any()
    report["verdicts"][failed]["passed"] = False
    seen = orange(sanity_figure(report))
    width = seen.shape[1]
    left, right = ((0, 0.27), (0.27, 0.66), (0.66, 1.0))[failed]
    assert seen[:, int(left * width) : int(right * width)].sum() == seen.sum() > 100


def test_phantom_images_are_labelled() -> None:
    headline = {flag: pixels(sanity_figure(REPORT | {"phantom": flag}))[:40] for flag in (False, True)}
    ink = {flag: (strip < 128).all(axis=-1).sum() for flag, strip in headline.items()}
    assert ink[True] > 2 * ink[False]


def test_undefined_numbers_are_left_out() -> None:
    report = copy.deepcopy(REPORT)
    chance, few, shuffled = report["verdicts"]
    chance["measured"]["loss"] = None
    few["epochs"] = [{"loss": None, "auc": None}]
    shuffled["epochs"] = [{"auc": None}]
    shuffled["measured"]["auc"] = None
    shuffled["expected"] |= {"at_least": None, "at_most": None}
    assert pixels(sanity_figure(report)).std() > 0
