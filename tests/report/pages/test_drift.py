import re
from html.parser import HTMLParser

import numpy as np
import pytest

from cxr_pipeline.deployment.drift.detection import detect_drift
from cxr_pipeline.deployment.drift.image_features import ImageFeatures
from cxr_pipeline.deployment.drift.reference_profile import ReferenceProfile
from cxr_pipeline.report.pages import drift
from cxr_pipeline.report.pages.drift import draw_distributions, draw_effects, render_drift

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
    found = detect_drift(profile, new, alpha=0.01, min_images=30, limits=LIMITS, seed=0)
    images = {"place": "/new", "images": 90, "left_out": 0, "without_patient": 0, "drawn": 80, "looked_at": 80}
    return {
        "task": "effusion",
        "title": "Pleural effusion",
        "phantom": False,
        **found.to_dict(),
        "model": {"name": "cxr-effusion", "version": 3, "uri": "models:/cxr-effusion/3", "run_id": "r", "digest": "d"},
        "new_images": {**images, "refused": {}},
        "reference": {"stored": True, "training_images": 120, "validation_images": 80},
    } | changed


class Page(HTMLParser):
    """The elements, the rows and the text of each section of a page."""

    def __init__(self, report):
        super().__init__()
        self.html = render_drift(report)
        self.tags, self.rows, self.text, self._section, self._cell = [], [], {}, "", False
        self.feed(self.html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._section = dict(attrs).get("id", self._section) if tag == "section" else self._section
        if tag == "tr":
            self.rows.append([])
        self._cell = tag in ("td", "th")
        if self._cell:
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        self._cell = self._cell and tag not in ("td", "th")

    def handle_data(self, data):
        if self._cell:
            self.rows[-1][-1] += data
        self.text[self._section] = " ".join(f"{self.text.get(self._section, '')} {data}".split())


SAME, BRIGHT = report_of(observed(80, 2)), report_of(observed(80, 2, brighter=40))
FLIPPED, FEW = report_of(observed(80, 2, flipped=True)), report_of(observed(12, 2))
UNLABELLED = report_of(observed(80, 2, labels=False))


def test_the_verdict_comes_first_in_plain_words() -> None:
    same, bright, few = (Page(report).text["summary"] for report in (SAME, BRIGHT, FEW))
    assert "Verdict: no drift found. No drift was found in pixels" in same
    assert "What to do Nothing. These images can be scored" in same
    assert "Verdict: REFUSE. Drift in pixels (brightness, KS distance 0.9" in bright
    assert re.search(r"Pixels: REFUSE\. brightness: \d+\.\d then, 1[34]\d\.\d now\.", bright)
    assert "do not train on them" in bright
    assert "Put a handful of new images beside training images" in bright
    assert "Check the labels first" not in bright
    assert "Verdict: cannot be told. Drift cannot be tested with 12 new images" in few
    assert "Collect more images" in few


def test_flipped_labels_lead_to_the_labels() -> None:
    text = Page(FLIPPED).text["summary"]
    assert "Calibration: REFUSE. ill, Spiegelhalter:" in text
    assert "Check the labels first" in text
    assert "Put a handful" not in text


def test_what_was_compared_with_what() -> None:
    text = Page(SAME).text["summary"]
    assert "80 new images from /new with the images that cxr-effusion 3 comes from" in text
    assert "120 of its training images" in text
    assert "80 validation images" in text
    assert "16 tests were made" in text
    assert "at most 1 of 100 checks" in text
    unregistered = {**SAME["model"], "name": None, "version": None, "uri": "runs:/x/model"}
    assert "that runs:/x/model comes from" in Page({**SAME, "model": unregistered}).text["summary"]


def test_every_test_is_a_row_with_its_numbers() -> None:
    rows = [row for row in Page(BRIGHT).rows if len(row) == 9]
    tests = [test for family in BRIGHT["families"] for test in family["tests"]]
    assert len(rows) == len(tests) + 1
    first = rows[1]
    assert first[:3] == ["pixels", "brightness", "refuse"]
    assert first[3:5] == [f"KS distance {tests[0]['effect']:.3f}", "below 0.001"]
    assert first[5:] == [f"{tests[0]['reference']:.1f} (120)", f"{tests[0]['new']:.1f} (80)", *first[7:]]
    assert first[7:] == ["Kolmogorov-Smirnov", "below 0.001"]
    assert [row[2] for row in rows[2:]] == [""] * (len(rows) - 2)
    assert ["prevalence", "0.2", "never"] in Page(BRIGHT).rows


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"refused": {"truncated": 3, "too_small": 1}}, "4 of 80 new images could not be used and are in no test"),
        ({"refused": {"too_small": 1}}, "in no test: 1 too small"),
        ({"without_patient": 90}, "Of 90 of 90 new images the patient is not known"),
        ({"left_out": 7}, "7 new images do not belong to this task"),
    ],
)
def test_what_the_images_lack_is_said(changed, expected) -> None:
    report = {**SAME, "new_images": {**SAME["new_images"], **changed}}
    assert expected in Page(report).text["warnings"]


def test_why_something_was_not_tested_is_said_once() -> None:
    text = Page(UNLABELLED).text["warnings"]
    assert text.count("The new images have no labels.") == 1
    assert "Prevalence and calibration: The new images have no labels." in text
    assert "Prevalence: cannot be told. Not tested." in Page(UNLABELLED).text["summary"]


def test_a_reference_made_today_is_cautioned_about() -> None:
    made = {**SAME, "reference": {**SAME["reference"], "stored": False}}
    assert "has left no profile of its images" in Page(made).text["warnings"]
    assert "warnings" not in Page(SAME).text


def test_phantoms_are_called_phantoms() -> None:
    page = Page({**SAME, "phantom": True})
    assert "PHANTOM IMAGES" in page.text[""]
    assert "PHANTOM IMAGES" not in Page(SAME).html


def test_the_page_stands_alone_and_takes_no_text_for_markup() -> None:
    hostile = report_of(
        observed(80, 2, k=2, flipped=True),
        outputs=(HOSTILE, "b"),
        title=HOSTILE,
        new_images={**SAME["new_images"], "place": HOSTILE},
    )
    page = Page(hostile)
    assert "<script" not in page.html
    assert page.text["summary"].count(HOSTILE.replace("_", " ")) >= 1
    assert HOSTILE in page.text["summary"]
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "link", "iframe"}
    for tag, attributes in page.tags:
        address = attributes.get("src") or attributes.get("href") or "data:"
        assert address.startswith("data:"), (tag, address)


def test_few_images_make_a_page_without_figures() -> None:
    page = Page(FEW)
    assert "figures" not in page.text
    assert "No test was made." in page.text["numbers"]
    assert draw_distributions(FEW) is None
    assert draw_effects(FEW).startswith(b"\x89PNG")


def test_findings_are_orange_and_significance_is_filled(drawn_by) -> None:
    drawn = drawn_by(drift)
    draw_effects(BRIGHT)
    axes = drawn[0].axes[0]
    points = [line for line in axes.lines if line.get_marker() == "o"]
    assert len(points) == 16
    assert [point.get_color() for point in points[:2]] == [drift.ORANGE, drift.BLUE]
    assert [point.get_markerfacecolor() for point in points[:2]] == [drift.ORANGE, "white"]
    assert points[0].get_xdata()[0] == pytest.approx(BRIGHT["families"][0]["tests"][0]["effect"] / 0.2)
    area = BRIGHT["families"][1]["tests"][0]["effect"]
    assert points[11].get_xdata()[0] == pytest.approx(max(0, area - 0.5) / 0.15)
    assert axes.get_yticklabels()[0].get_text() == "pixels: brightness"


def test_distributions_show_findings_first_and_not_too_many(drawn_by) -> None:
    drawn = drawn_by(drift)
    outputs = tuple(f"class_{place}" for place in range(14))
    report = report_of(observed(80, 2, k=14), outputs=outputs)
    scores = report["families"][2]["tests"]
    scores[-1]["verdict"] = "warn"
    draw_distributions(report)
    titles = [axes.get_title(loc="left") for axes in drawn[0].axes]
    assert len(titles) == drift.MOST_PANELS
    assert titles[0] == "scores: class 13"
    assert titles[1] == "brightness"
    draw_effects(report)
    assert len(drawn[1].axes[0].get_yticklabels()) == drift.MOST_ROWS
