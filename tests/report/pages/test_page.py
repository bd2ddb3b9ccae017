import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pandas as pd
import pytest

from cxr_pipeline.report.figures import style
from cxr_pipeline.report.pages.page import DENSE_FIGURES, FIGURES, HEATMAPS, ReportContent, render

SECTIONS = ("summary", "figures", "numbers", "data", "splits", "model", "card", "parameters", "versions")
BANNER = "PHANTOM IMAGES: drawn by a program, says nothing about patients"
HOSTILE = "<script>alert(1)</script>\"'&.png"


class Page(HTMLParser):
    """What a browser would make of the page: its elements, and the text of each section and table row."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, str] = {}
        self.rows: list[list[str]] = []
        self._section, self._in_cell = "", False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.elements.append((tag, attributes))
        if tag in ("section", "title", "style"):
            self._section = attributes.get("id") or tag
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("section", "title", "style"):
            self._section = ""
        if tag in ("td", "th"):
            self._in_cell = False

    def handle_data(self, data: str) -> None:
        self.text[self._section] = self.text.get(self._section, "") + data
        if self._in_cell:
            self.rows[-1][-1] += data

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def png() -> bytes:
    return style.words("a figure")


@pytest.fixture
def content(png: bytes) -> ReportContent:
    """A plausible run on 791 images, with nothing to warn of."""
    measures = {"auc": (0.889, 0.851, 0.924), "sensitivity": (0.828, 0.75, 0.9), "specificity": (0.783, 0.69, 0.86),
                "precision": (0.772, None, None), "brier": (0.14, 0.12, 0.17)}  # fmt: skip
    return ReportContent(
        task={"name": "effusion", "title": "Pleural effusion", "kind": "binary", "classes": ["nofinding", "effusion"]},
        metrics={
            "phantom": False,
            "n_images": 119,
            "prevalence": 0.487,
            "intervals": {"replicates": 2000, "confidence": 0.95, "clustered_by": "patient"},
            "metrics": (
                metrics := {
                    name: dict(zip(("value", "low", "high"), row, strict=True)) for name, row in measures.items()
                }
            ),
            "per_class": {"effusion": metrics},
        },
        decision_rule={
            "classes": ["nofinding", "effusion"],
            "thresholds": {"effusion": 0.4137},
            "calibration": {"method": "isotonic", "scores": [0.1] * 40},
            "policy": {"rule": "youden"},
            "policy_met": True,
            "message": "At 0.4137 sensitivity is 0.930.",
            "fitted_on": {"split": "validation", "n_images": 118, "n_positive": 57},
        },
        data_report=data_report(),
        quarantine=quarantine(9),
        split_counts={
            "train": {"nofinding": 1284, "effusion": 270, "patients": 501},
            "validation": {"nofinding": 61, "effusion": 57, "patients": 70},
            "test": {"nofinding": 61, "effusion": 58, "patients": None},
        },
        source_counts={"images": {"train": 1554, "validation": 118, "test": 119}},
        history=pd.DataFrame(
            {
                "phase": ["frozen", "fine_tuning"],
                "epoch": [1, 2],
                "val_auc": [0.7, float("nan")],
                "learning_rate": [1e-3, 5e-5],
            }
        ),
        figures={name: png for name in reversed(FIGURES) if name != HEATMAPS},
        parameters={"training.learning_rate": 0.001, "training.patience": None, "model.weights": "imagenet"},
        versions={"git commit": "0f3a9c1d", "python": "3.11.7", "cxr_pipeline": "0.1.0"},
        model={"name": "densenet121", "weights": "imagenet", "n_parameters": 7168833, "size": 224},
    )


def data_report() -> dict[str, Any]:
    source = {
        "rows_in_source": 112120,
        "left_out": {"other_classes": 6, "listed": 3, "uncertain": 0},
        "rows_read": 112111,
        "not_on_disk": 111311,
        "manifest": 791,
    }
    return {
        "phantom": False,
        "data_digest": "9b" * 32,
        "n_images": 791,
        "n_patients": 640,
        "n_images_without_patient": 0,
        "classes": {"nofinding": 406, "effusion": 385},
        "sources": {
            "images": {**source, "quarantine": {"truncated": 5, "exact_duplicate": 4}, "n_patients": 640,
                      "has_patients": True, "notes": ["Labels are from <table>.csv."]},
        },
        "age": {"n_known": 640, "median": 48.5, "oldest": None},
        "sex": {"F": 310, "M": 330, "unknown": 151},
        "view": {"PA": 791},
    }  # fmt: skip


def quarantine(n_images: int, image: str = "image") -> pd.DataFrame:
    return pd.DataFrame(
        {
            "source": ["images"] * n_images,
            "image": [f"{image}{number}.png" for number in range(n_images)],
            "reason": ["truncated"] * (n_images - 2) + ["empty"] * min(n_images, 2),
            "detail": ["ends early"] * n_images,
        }
    )


def changed(content: ReportContent, block: str, **values: Any) -> ReportContent:
    return replace(content, **{block: {**getattr(content, block), **values}})


def test_every_section_is_there_in_order(content):
    page = Page(render(content))
    assert [attributes["id"] for attributes in page.attributes("section")] == list(SECTIONS)
    assert page.text["title"] == "Pleural effusion"


def test_nothing_is_loaded_from_anywhere(content):
    page = Page(render(content))
    assert {"script", "link", "iframe", "object", "base", "form"}.isdisjoint(tag for tag, _ in page.elements)
    for _, attributes in page.elements:
        for name in ("src", "href", "srcset", "action", "background", "style"):
            assert re.match(r"data:image/png;base64,|#", attributes.get(name) or "#")
        assert not any(name.startswith("on") for name in attributes)
    assert "url(" not in page.html
    assert "@import" not in page.html
    assert "default-src 'none'" in page.html


def test_it_fits_a_phone_and_its_tables_scroll_in_their_own_box(content):
    page = Page(render(content))
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.attributes("meta")
    tags = [(tag, attributes.get("class") or "") for tag, attributes in page.elements if tag in ("div", "table")]
    tables = [place for place, (tag, _) in enumerate(tags) if tag == "table"]
    assert tables
    assert all(tags[place - 1][1].startswith("scroll") for place in tables)
    assert sum(kind.startswith("scroll") for _, kind in tags) == len(tables) + len(set(DENSE_FIGURES) - {HEATMAPS})
    assert ".scroll { overflow-x: auto" in page.text["style"]


def test_every_image_is_the_figure_itself_and_is_described(content):
    images = Page(render(content)).attributes("img")
    known = [words for name, words in FIGURES.items() if name != HEATMAPS]
    for image, (title, explanation) in zip(images, known, strict=True):
        assert image["src"].startswith("data:image/png;base64,iVBOR")
        assert image["alt"] == f"{title}. {explanation}"


def test_each_figure_keeps_its_own_bytes_and_an_unknown_one_comes_last(content, png):
    figures = {"grad_cam": style.words("new"), "roc": png}
    first, last = Page(render(replace(content, figures=figures))).attributes("img")
    assert first["src"] != last["src"]
    assert last["alt"].startswith("Grad cam")


def test_without_figures_there_are_no_images(content):
    assert Page(render(replace(content, figures={}))).attributes("img") == []


def test_phantoms_are_announced_on_the_page_and_in_the_title(content):
    page = Page(render(changed(content, "metrics", phantom=True)))
    assert BANNER in page.text[""]
    assert page.text["title"].startswith("PHANTOM IMAGES")


def test_real_images_carry_no_such_banner(content):
    assert "PHANTOM" not in render(content)


def test_a_good_run_has_no_warnings(content):
    assert not re.search(r'id="warnings"|#warnings', render(content))


def test_warnings_are_listed_counted_and_linked(content):
    missed = changed(content, "decision_rule", policy_met=False, message="Missed by <0.03>.")
    missed = replace(
        missed, split_counts={**missed.split_counts, "test": {"nofinding": 4, "effusion": 58, "patients": 9}}
    )
    page = Page(render(missed))
    assert "Missed by <0.03>." in page.text["warnings"]
    assert "4 labelled nofinding" in page.text["warnings"]
    assert "2 warnings below." in page.text[""]
    assert {"href": "#warnings"} in page.attributes("a")


def test_the_summary_says_what_on_whom_how_good_and_what_not(content):
    text = Page(render(content)).text["summary"]
    for expected in (
        "7,168,833 parameters",
        "1,554 images",
        "640 patients",
        "about 83 are found",
        "between 0.851 and 0.924",
        "not a medical device",
    ):
        assert expected in text


@pytest.mark.parametrize("rule", ["youden", "fixed"])
def test_a_threshold_that_was_set_is_not_called_fitted(content, rule):
    text = Page(render(changed(content, "decision_rule", policy={"rule": rule}))).text["numbers"]
    assert ("Thresholds were fitted on validation images." in text) == (rule == "youden")
    assert ("set beforehand; it was not fitted." in text) == (rule == "fixed")
    assert "Fitted on validation images" not in text


def test_a_source_that_taught_nothing_is_not_said_to_have_taught(content):
    silent = changed(content, "source_counts", other={"train": 0, "validation": 0, "test": 40})
    assert "from the source “other”, which it did not learn from." in Page(render(silent)).text["summary"]


def test_numbers_are_formatted_with_their_intervals(content):
    page = Page(render(content))
    assert ["measure", "value", "95 % interval", "meaning"] in page.rows
    assert ["AUC", "0.889", "0.851 to 0.924"] in [row[:3] for row in page.rows]
    assert ["precision", "0.772", ""] in [row[:3] for row in page.rows]
    assert ["thresholds, effusion", "0.414"] in page.rows
    assert ["calibration, scores", "40 values"] in page.rows
    assert ["fitted on, n images", "118"] in page.rows


def test_the_data_report_counts_every_row_of_a_source(content):
    page = Page(render(content))
    assert ["images", "112,120", "9", "111,311", "9", "791", "640"] in page.rows
    for row in (["patients", "640"], ["images labelled effusion", "385"], ["sex", "F 310, M 330, unknown 151"],
                ["age in years", "n known 640, median 48.5"], ["truncated", "7"], ["empty", "2"]):  # fmt: skip
        assert row in page.rows
    assert "images: Labels are from <table>.csv." in page.text["data"]
    assert "called uncertain" not in page.text["data"]


def test_unknown_patients_are_called_so(content):
    source = {**data_report()["sources"]["images"], "n_patients": 0, "has_patients": False}
    silent = changed(content, "data_report", n_patients=0, n_images_without_patient=791, sources={"images": source})
    page = Page(render(silent))
    assert ["patients", "not known"] in page.rows
    assert ["images", "112,120", "9", "111,311", "9", "791", "not known"] in page.rows
    assert "791 of 791 images" in page.text["warnings"]


def test_the_split_is_counted_by_class(content):
    page = Page(render(content))
    for row in (["", "train", "validation", "test"], ["effusion", "270", "57", "58"], ["images", "1,554", "118", "119"],
                ["patients", "501", "70", "not known"]):  # fmt: skip
        assert row in page.rows


def test_parameters_are_shown_as_they_are_typed_and_versions_as_they_are_named(content):
    rows = Page(render(content)).rows
    for row in (["training.learning_rate", "0.001"], ["training.patience", "null"], ["model.weights", '"imagenet"'],
                ["cxr_pipeline", "0.1.0"], ["git commit", "0f3a9c1d"], ["frozen", "1", "0.700", "0.001"],
                ["fine_tuning", "2", "", "5e-05"]):  # fmt: skip
        assert row in rows


def test_hostile_names_are_shown_and_not_obeyed(content):
    frame = quarantine(3)
    frame.loc[1, "reason"] = HOSTILE
    page = Page(render(replace(content, quarantine=frame)))
    assert HOSTILE in [cell for row in page.rows for cell in row]
    assert not page.attributes("script")


def test_hostile_names_in_every_other_text_are_not_obeyed(content):
    hostile = changed(content, "task", title=HOSTILE)
    hostile = changed(hostile, "versions", **{HOSTILE: HOSTILE})
    hostile = replace(hostile, parameters={HOSTILE: HOSTILE}, figures={HOSTILE: b""})
    source = data_report()["sources"]["images"]
    hostile = changed(hostile, "data_report", sources={HOSTILE: {**source, "notes": [HOSTILE]}})
    page = Page(render(hostile))
    assert not page.attributes("script")
    assert page.text["title"] == HOSTILE
    assert f"“{HOSTILE}”" in page.text["summary"]


def test_names_in_other_scripts_stay_as_they_are(content):
    frame = quarantine(3).assign(reason="-フィルム\n ")
    assert ["-フィルム\n ", "3"] in Page(render(replace(content, quarantine=frame))).rows


def test_refused_images_are_counted_and_not_named(content):
    frame = quarantine(1250, image="00004711_").assign(detail="the same image as nih: 00004711_000.png")
    page = Page(render(replace(content, quarantine=frame)))
    assert ["truncated", "1,248"] in page.rows
    assert "4711" not in page.html
    assert "quarantine.csv" in page.text["data"]


def test_an_empty_quarantine_says_none(content):
    page = Page(render(replace(content, quarantine=quarantine(0))))
    assert "None." in page.text["data"]
    assert "quarantine.csv" not in page.text["data"]


def subgroups(*, measured: bool = True) -> dict[str, Any]:
    figure = {"value": 0.75, "low": 0.5, "high": 0.875}
    metrics = dict.fromkeys(("auc", "sensitivity", "specificity"), figure) if measured else {}
    group = {"n_images": 40, "n_patients": 20, "n_positive": {"effusion": 10}, "n_known": {"effusion": 40},
             "metrics": metrics, "per_class": {"effusion": metrics} if measured else {}}  # fmt: skip
    silent = {"n_unknown": 119, "groups": {}}
    return {"min_patients": 10, "confidence": 0.95, "sex": {"n_unknown": 79, "groups": {"F": group}}, "age": silent,
            "view": silent}  # fmt: skip


def test_subgroups_have_a_section_of_their_own(content):
    page = Page(render(replace(content, subgroups=subgroups())))
    found = "0.750\n0.500 to 0.875"
    assert ["sex: F", "40", "20", "0.250", found, found, found] in page.rows
    assert "Not known of any test image: age and view." in page.text["subgroups"]
    assert "sex for 79 images" in page.text["subgroups"]


def test_subgroups_that_are_too_small_are_named(content):
    page = Page(render(replace(content, subgroups=subgroups(measured=False))))
    assert "with fewer than 10 patients with a class or without it: sex F (40 images)" in page.text["subgroups"]
    assert "Subgroups of the test images" not in page.html


def test_what_no_run_can_know_is_said_so(content):
    page = Page(render(content))
    assert ["ethical approval", "", "17"] in page.rows
    assert "kedro run --pipeline=effusion_drift" in page.text["card"]
    drawn = Page(render(changed(content, "metrics", phantom=True)))
    assert "kedro run --env demo --pipeline=effusion_drift" in drawn.text["card"]


def test_the_same_content_gives_the_same_page(content):
    assert render(content) == render(content)


def test_no_patient_is_named(content):
    named = quarantine(3).assign(patient_id="patient-4711")
    assert "4711" not in render(replace(content, quarantine=named))


def test_a_binary_page_has_no_tables_of_several_classes(content):
    text = render(content)
    for heading in ("Each class", "Each source", "Other threshold policies", "The rule of each class", "Where it looks",
                    "<h3>Classification report", "Images by class and source"):  # fmt: skip
        assert heading not in text


@pytest.fixture
def several(content) -> ReportContent:
    """The same run, as one of several labels from two sources, with everything that a page can hold."""
    classes, measures = ("Mass", "<Nodule>"), content.metrics["metrics"]
    per_class = dict.fromkeys(classes, measures)
    metrics = {
        **content.metrics,
        "thresholds": {"Mass": 0.25, "<Nodule>": 0.5},
        "support": {name: {"n_known": 119, "n_positive": 58} for name in classes},
        "per_class": per_class,
        "per_source": {
            name: {"n_images": 60, "metrics": measures, "per_class": per_class} for name in ("nih", "kermany")
        },
        "policies": [
            {"policy": {"rule": "youden"}, "chosen": True, "thresholds": {"Mass": 0.25}, "metrics": measures},
            {"policy": {"rule": "fixed", "value": 0.3}, "thresholds": {"Mass": 0.3}, "metrics": measures},
        ],
    }
    rule = {"policy_met": True, "message": "Met.", "policy": {"rule": "youden"}}
    report = changed(
        content, "data_report", unknown_labels={"Mass": 4},
        confounding={"auc": 0.9, "accuracy": 0.8, "majority_accuracy": 0.5, "confounded": True,
                     "n_images": {"Mass": {"nih": 5, "kermany": 7}, "<Nodule>": {"nih": 6}, "normal": {"nih": 1}},
                     "per_class": {"Mass": {"auc": 0.9}, "<Nodule>": {"auc": None}}},
    ).data_report  # fmt: skip
    counts = {split: {"Mass": 60, "<Nodule>": 58, "images": 100, "patients": 70} for split in content.split_counts}
    return replace(
        content,
        task={**content.task, "kind": "multilabel", "classes": list(classes)},
        metrics=metrics,
        decision_rule={
            "kind": "multilabel",
            "thresholds": metrics["thresholds"],
            "calibration": {name: {"method": "platt"} for name in classes},
            "policy": {"rule": "youden"},
            "per_class": dict.fromkeys(classes, rule),
        },
        data_report=report,
        split_counts=counts,
        explanations=explanations(),
        classification_report=pd.DataFrame({"precision": [0.5, None], "support": [58, 1200]}, index=list(classes)),
        confusion_table=pd.DataFrame([[50, 8], [0, 61]], index=pd.Index(classes, name="true class"), columns=classes),
    )


def explanations() -> dict[str, Any]:
    measure = {"value": 0.75, "low": 0.5, "high": 0.875}
    found = {"n_images": 20, "n_boxes": 21, "pointing_game": measure, "box_area": measure}
    return {"method": "Grad-CAM", "layer": "relu", "localisation": {"Mass": found},
            "randomised": {"n_shuffles": 5, "rank_correlation": measure, "pointing_game": None}}  # fmt: skip


def test_a_page_of_several_classes_shows_everything_that_was_measured(several):
    page = Page(render(several))
    auc, found = "0.889\n0.851 to 0.924", "0.828\n0.750 to 0.900"
    for row in (
        ["class", "images of it", "of", "AUC", "sensitivity", "specificity", "precision", "threshold"],
        ["<Nodule>", "58", "119", auc, found, "0.783\n0.690 to 0.860", "0.772", "0.500"],
        ["source", "images", "AUC", "sensitivity", "specificity", "precision"],
        ["class", "all together", "nih", "kermany"],
        ["Mass", auc, auc, auc],
        ["policy", "threshold", "sensitivity", "specificity", "precision"],
        ["fixed, value 0.3", "0.300", found, "0.783\n0.690 to 0.860", "0.772"],
        ["", "precision", "support"],
        ["<Nodule>", "", "1,200"],
        ["true class", "Mass", "<Nodule>"],
        ["Mass", "50", "8"],
        ["Mass", "0.250", "yes", "Met.", "youden"],
        ["class", "nih", "kermany", "AUC of the source alone"],
        ["Mass", "5", "7", "0.900"],
        ["<Nodule>", "6", "0", "not defined"],
        ["normal", "1", "0", ""],
        ["images of which Mass is not known", "4"],
        ["images", "100", "100", "100"],
        ["images", "of no class of this task", "6"],
    ):
        assert row in page.rows
    assert "youden (chosen)" in [row[0] for row in page.rows if row]
    assert not [row for row in page.rows if row and row[0].startswith("thresholds")]
    assert not page.attributes("nodule")


def test_where_it_looks_has_its_own_section_with_its_maps(several, png):
    page = Page(render(replace(several, figures={"heatmaps": png, "heatmaps_Pleural_Thickening": png, "roc": png})))
    sections = [attributes["id"] for attributes in page.attributes("section")]
    assert sections.index("explanations") == sections.index("numbers") + 1
    assert "Grad-CAM" in page.text["explanations"]
    assert "they explain nothing" in page.text["explanations"]
    assert "Where it looks for Pleural_Thickening" in page.text["explanations"]
    assert ["Mass", "20", "21", "0.750\n0.500 to 0.875", "", "", "", "", "0.750\n0.500 to 0.875"] in page.rows
    assert len(page.attributes("img")) == 3


def test_maps_without_measures_have_a_section_too(content, png):
    page = Page(render(replace(content, figures={"heatmaps": png})))
    assert "Test images of each kind" in page.text["explanations"]
    assert page.text["figures"].strip() == "Figures"
