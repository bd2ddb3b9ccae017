import re

import pytest

from cxr_pipeline.report.pages import drift


@pytest.fixture(scope="module")
def same(drift_report):
    return drift_report()


@pytest.fixture
def text_of(read_page, drawn):
    """Return the text of the sections of a report's page."""
    return lambda report: read_page(drift.render_drift(report)).text


def test_the_verdict_and_the_action_come_first(text_of, drift_report, same):
    reports = (same, drift_report(brighter=40), drift_report(flipped=True), drift_report(12))
    sentence, texts = reports[1]["sentence"], [text_of(report) for report in reports]
    same, bright, flipped, few = (" ".join(text.values()) for text in texts)
    assert "Pleural effusion: drift Verdict: no drift." in same
    assert "pixels no drift features no drift" in same
    assert "Action None. These images can be scored" in same
    assert f"Verdict: REFUSE. {sentence}" in bright
    assert re.search(r"Pixels: REFUSE\. Brightness: \d+\.\d before, 1[34]\d\.\d now\.", bright)
    assert "do not train on them" in bright
    assert "Calibration: REFUSE. Ill, Spiegelhalter:" in flipped
    for cause, text in (("Compare a few new images", bright), ("First check the labels", flipped)):
        assert [cause in other for other in (bright, flipped)] == [text is other for other in (bright, flipped)]
    assert "Verdict: unknown." in few
    assert "Collect more images" in few
    # Without tests there are no figures.
    assert "No test was possible." in texts[3]["results"]
    assert ["figures" in text for text in texts] == [True, True, True, False]


def test_the_page_says_what_was_compared(text_of, same):
    text = text_of(same)["comparison"]
    for fact in ("80 new images from /new with the images of cxr-chest 3:", "120 training images",
                 "80 images that the network was not", "Number of tests: 16.", "at most 1 of 100 checks"):  # fmt: skip
        assert fact in text
    unregistered = {**same["model"], "name": None, "version": None, "uri": "runs:/x/model"}
    assert "images of runs:/x/model:" in text_of({**same, "model": unregistered})["comparison"]


def test_every_test_is_a_row(read_page, drift_report):
    bright = drift_report(brighter=40)
    page = read_page(drift.render_drift(bright))
    rows = [row for row in page.rows if len(row) == 9]
    tests = [test for family in bright["families"] for test in family["tests"]]
    assert len(rows) == len(tests) + 1
    effect, reference, new = (tests[0][key] for key in ("effect", "reference", "new"))
    assert rows[1] == ["pixels", "brightness", "refuse", f"KS distance {effect:.3f}", "below 0.001",
                       f"{reference:.1f} (120)", f"{new:.1f} (80)", "Kolmogorov-Smirnov", "below 0.001"]  # fmt: skip
    assert [row[2] for row in rows[2:]] == [""] * (len(rows) - 2)
    assert ["prevalence", "0.2", "never"] in page.rows


def test_missing_images_and_patients_are_warnings(text_of, same):
    missing = {"refused": {"truncated": 3, "too_small": 1}, "without_patient": 90, "left_out": 7}
    text = text_of({**same, "new_images": {**same["new_images"], **missing}})["warnings"]
    assert "4 of 80 new images were rejected and not tested: 3 truncated and 1 too small" in text
    assert "The patient is unknown for 90 of 90 new images." in text
    assert "7 new images without a class of this task" in text
    assert "warnings" not in text_of(same)


def test_missing_tests_are_warnings(text_of, drift_report):
    unlabelled = drift_report(labels=False) | {"phantom": True}
    text, note = text_of(unlabelled), unlabelled["families"][3]["notes"][0]
    assert text["warnings"].count(note) == 1
    assert f"Prevalence and calibration: {note}" in text["warnings"]
    assert "Prevalence: unknown. Not tested." in text["found"]
    assert "PHANTOM IMAGES" in text[""]


def test_the_page_is_accessible(drift_report, check_page):
    check_page(drift.render_drift(drift_report(brighter=40)))
