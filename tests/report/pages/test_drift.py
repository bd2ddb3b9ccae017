import re

import numpy as np
import pytest

from cxr_pipeline.deployment.drift.detection import detect_drift
from cxr_pipeline.deployment.drift.image_features import ImageFeatures
from cxr_pipeline.deployment.drift.reference_profile import ReferenceProfile
from cxr_pipeline.report.figures import drift as figures
from cxr_pipeline.report.pages.drift import render_drift

HOSTILE = "<script>alert('1')</script> & $x_"
LIMITS = {
    "pixels": {"warn": 0.2, "refuse": 0.9},
    "features": {"warn": 0.65, "refuse": 0.9},
    "scores": {"warn": 0.1, "refuse": 0.5},
    "prevalence": {"warn": 0.2, "refuse": None},
    "calibration": {"warn": 0.05, "refuse": 0.25},
}


def observed(n, seed, *, k=1, brighter=0.0, flipped=False, labels=True):
    rng = np.random.default_rng(seed)
    statistics = rng.normal(100, 10, (n, 11)).astype(np.float32)
    statistics[:, 0] += brighter
    probability = rng.random((n, k))
    true = (rng.random((n, k)) < probability).astype(float)
    true = np.full((n, k), np.nan) if not labels else 1 - true if flipped else true
    return ImageFeatures(statistics, rng.normal(size=(n, 4)).astype(np.float32), probability, true, np.full(n, ""))


def report_of(new, *, outputs=("ill",), **changed):
    k = len(outputs)
    profile = ReferenceProfile.fit(observed(120, 0, k=k), observed(80, 1, k=k), outputs=outputs, seed=0)
    images = {"place": "/new", "images": 90, "left_out": 0, "without_patient": 0, "drawn": 80, "looked_at": 80}
    return {
        "task": "effusion",
        "title": "Pleural effusion",
        "phantom": False,
        **detect_drift(profile, new, alpha=0.01, min_images=30, limits=LIMITS, seed=0),
        "model": {"name": "cxr-effusion", "version": 3, "uri": "models:/cxr-effusion/3", "run_id": "r", "digest": "d"},
        "new_images": {**images, "refused": {}},
        "reference": {"stored": True, "training_images": 120, "validation_images": 80},
    } | changed


SAME, BRIGHT, FLIPPED = (report_of(observed(80, 2, **options)) for options in ({}, {"brighter": 40}, {"flipped": True}))
FEW, UNLABELLED = report_of(observed(12, 2)), report_of(observed(80, 2, labels=False))


@pytest.fixture
def text_of(read_page):
    """Return the text of the sections of a report's page."""
    return lambda report: read_page(render_drift(report)).text


def test_the_verdict_and_the_action_come_first(text_of):
    same, bright, flipped, few = (text_of(report)["summary"] for report in (SAME, BRIGHT, FLIPPED, FEW))
    assert same.startswith("Summary Verdict: no drift.")
    assert "Action None. These images can be scored" in same
    assert f"Verdict: REFUSE. {BRIGHT['sentence']}" in bright
    assert re.search(r"Pixels: REFUSE\. Brightness: \d+\.\d before, 1[34]\d\.\d now\.", bright)
    assert "do not train on them" in bright
    assert "Calibration: REFUSE. Ill, Spiegelhalter:" in flipped
    for cause, text in (("Compare a few new images", bright), ("First check the labels", flipped)):
        assert [cause in other for other in (bright, flipped)] == [text is other for other in (bright, flipped)]
    assert "Verdict: unknown." in few
    assert "Collect more images" in few


def test_the_page_says_what_was_compared(text_of):
    text = text_of(SAME)["summary"]
    for fact in ("80 new images from /new with the images of cxr-effusion 3:", "120 training images",
                 "80 validation images", "Number of tests: 16.", "at most 1 of 100 checks"):  # fmt: skip
        assert fact in text
    unregistered = {**SAME["model"], "name": None, "version": None, "uri": "runs:/x/model"}
    assert "images of runs:/x/model:" in text_of({**SAME, "model": unregistered})["summary"]


def test_every_test_is_a_row(read_page):
    page = read_page(render_drift(BRIGHT))
    rows = [row for row in page.rows if len(row) == 9]
    tests = [test for family in BRIGHT["families"] for test in family["tests"]]
    assert len(rows) == len(tests) + 1
    effect, reference, new = (tests[0][key] for key in ("effect", "reference", "new"))
    assert rows[1] == ["pixels", "brightness", "refuse", f"KS distance {effect:.3f}", "below 0.001",
                       f"{reference:.1f} (120)", f"{new:.1f} (80)", "Kolmogorov-Smirnov", "below 0.001"]  # fmt: skip
    assert [row[2] for row in rows[2:]] == [""] * (len(rows) - 2)
    assert ["prevalence", "0.2", "never"] in page.rows


def test_missing_images_and_patients_are_warnings(text_of):
    missing = {"refused": {"truncated": 3, "too_small": 1}, "without_patient": 90, "left_out": 7}
    text = text_of({**SAME, "new_images": {**SAME["new_images"], **missing}})["warnings"]
    assert "4 of 80 new images were rejected and not tested: 3 truncated and 1 too small" in text
    assert "The patient is unknown for 90 of 90 new images." in text
    assert "7 new images without a class of this task" in text
    assert "warnings" not in text_of(SAME)


def test_missing_tests_and_profiles_are_warnings(text_of):
    text, note = text_of(UNLABELLED), UNLABELLED["families"][3]["notes"][0]
    assert text["warnings"].count(note) == 1
    assert f"Prevalence and calibration: {note}" in text["warnings"]
    assert "Prevalence: unknown. Not tested." in text["summary"]
    without_profile = {**SAME, "phantom": True, "reference": {**SAME["reference"], "stored": False}}
    assert "has no reference profile" in text_of(without_profile)["warnings"]
    assert "PHANTOM IMAGES" in text_of(without_profile)[""]


def test_hostile_names_are_escaped(read_page):
    new = observed(80, 2, k=2, flipped=True)
    images = {**SAME["new_images"], "place": HOSTILE}
    page = read_page(render_drift(report_of(new, outputs=(HOSTILE, "b"), title=HOSTILE, new_images=images)))
    assert "<script" not in page.html
    assert HOSTILE in page.text["summary"]
    assert HOSTILE.replace("_", " ") in page.text["summary"]


def test_without_tests_there_are_no_figures(text_of):
    text = text_of(FEW)
    assert "figures" not in text
    assert "No test was possible." in text["results"]
    assert figures.draw_distributions(FEW) is None
    assert figures.draw_effects(FEW).startswith(b"\x89PNG")
