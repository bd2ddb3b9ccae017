"""The model card."""

import re
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from cxr_pipeline.report.pages.card import PHANTOM, UNKNOWN, render_card, short_card
from cxr_pipeline.report.pages.page import ReportContent
from cxr_pipeline.report.rendering import markdown

SECTIONS = ["Intended use", "Data", "Split", "Model", "Decision rule", "Performance on the test images", "Subgroups",
            "Calibration", "Where it looks", "Afterwards", "Limits and cautions",
            "Not known to this pipeline"]  # fmt: skip

# The items of TRIPOD+AI that have parts.
LETTERED = {
    3: "abc",
    5: "ab",
    6: "abc",
    8: "abc",
    9: "abc",
    12: "abcdefg",
    18: "abcdef",
    20: "abc",
    23: "ab",
    27: "abc",
}


def subgroups() -> dict[str, Any]:
    figure = {"value": 0.75, "low": 0.5, "high": 0.875}
    group = {"n_images": 40, "n_patients": 20, "n_positive": {"effusion": 10}, "n_known": {"effusion": 40},
             "per_class": {"effusion": {}},
             "metrics": dict.fromkeys(("auc", "sensitivity", "specificity"), figure)}  # fmt: skip
    small = {**group, "n_images": 3, "metrics": {}, "per_class": {}}
    silent = {"n_unknown": 119, "groups": {}}
    view = {"n_unknown": 0, "groups": {"AP": small, "P|A": group}}
    return {"min_patients": 10, "confidence": 0.95, "sex": silent, "age": silent, "view": view}


@pytest.fixture
def content(metrics_of, data_report, counts, source_counts) -> ReportContent:
    data = data_report()
    source = {"rows_in_source": 800, "left_out": {}, "not_on_disk": 0, "quarantine": {"truncated": 9}, "manifest": 791,
              "n_patients": 640, "has_patients": True, "notes": ["Labels are from <table>.csv."]}  # fmt: skip
    return ReportContent(
        task={"name": "effusion", "title": "Pleural effusion", "kind": "binary", "classes": ["nofinding", "effusion"]},
        metrics={**metrics_of(brier=(0.14, 0.12, 0.17)), "phantom": False, "images_digest": "7" * 64},
        decision_rule={"calibration": {"method": "platt"}, "thresholds": {"effusion": 0.4137}, "policy_met": True,
                       "policy": {"rule": "youden"}},
        data_report={**data, "data_digest": "9" * 64, "classes": {"nofinding": 406, "effusion": 385},
                     "sources": {"images": source}, "age": {"n_known": 0}, "sex": {"F": 791}, "view": {}},
        quarantine=pd.DataFrame({"source": "images", "image": ["4711.png"] * 9, "reason": "truncated", "detail": "?"}),
        split_counts=counts(),
        source_counts=source_counts(),
        history=pd.DataFrame(),
        figures={},
        parameters={"splitting.train": 0.75, "training.monitor": "val_auc", "training.loss": "focal",
                    "task.uncertain": "unknown"},
        versions={"git commit": "0f3a9c1d", "keras": "3.15"},
        model={"name": "densenet121", "weights": "imagenet", "n_parameters": 7168833, "size": 224},
        subgroups=subgroups(),
    )  # fmt: skip


def card(content: ReportContent) -> str:
    return render_card(content, model_name="cxr-effusion")


def section(text: str, title: str) -> str:
    return text.split(f"## {title}\n")[1].split("\n## ")[0]


def test_every_section_is_there_in_order(content) -> None:
    assert re.findall(r"^## (.*)$", card(content), flags=re.MULTILINE) == SECTIONS


def test_it_says_which_model_it_is_of(content) -> None:
    head = card(content).split("\n## ")[0]
    for line in ("# Model card: Pleural effusion", "- model: `cxr-effusion`", f"- images: `{'9' * 64}`",
                 f"- test images: `{'7' * 64}`", "- code: `0f3a9c1d`"):  # fmt: skip
        assert line in head.splitlines()


def test_each_section_has_what_the_run_knows(content) -> None:
    text = card(content)
    for title, said in {
        "Intended use": "- It must not be used to diagnose",
        "Data": "| truncated | 9 |",
        "Split": "| share of effusion | 0.174 | 0.483 | 0.487 |",
        "Model": "| training.loss | focal |",
        "Decision rule": "| thresholds, effusion | 0.414 |",
        "Performance on the test images": "| AUC | 0.889 | 0.851 to 0.924 |",
        "Subgroups": "| view: P\\|A | 40 | 20 | 0.250 | 0.750 (0.500 to 0.875) |",
        "Calibration": "| Brier score | 0.140 (0.120 to 0.170) |",
        "Afterwards": "kedro run --pipeline=effusion_drift",
        "Limits and cautions": "- It was not tested on images from another source",
        "Not known to this pipeline": "| ethical approval |  | 17 |",
    }.items():
        assert said in section(text, title)
    assert "view AP (3 images)" in section(text, "Subgroups")
    assert "Not known of any test image: sex and age." in section(text, "Subgroups")


def test_a_caution_of_the_report_is_one_of_the_card(content) -> None:
    worse = replace(
        content, split_counts={**content.split_counts, "test": {"nofinding": 4, "effusion": 58, "patients": 9}}
    )
    assert "- There are few test images: 4 labelled nofinding." in section(card(worse), "Limits and cautions")


def test_phantoms_are_announced_first(content) -> None:
    assert PHANTOM not in card(content)
    drawn = card(replace(content, metrics={**content.metrics, "phantom": True}))
    assert drawn.splitlines()[2] == f"**{PHANTOM}**"
    assert "kedro lineage --env demo effusion" in drawn


def test_no_image_is_named(content) -> None:
    assert "4711" not in card(content)


def test_what_the_guidelines_ask_for_is_either_answered_or_said_to_be_unknown(content) -> None:
    items = ";".join(re.findall(r"^\*(.*)\*$", card(content), flags=re.MULTILINE))
    for guideline, place, last in (("CLAIM", 1, 42), ("TRIPOD+AI", 2, 27)):
        listed = [*re.findall(rf"{re.escape(guideline)} ([^;]*)", items), *(field[place] for field in UNKNOWN)]
        letters = LETTERED if guideline == "TRIPOD+AI" else {}
        wanted = {f"{number}{letter}" for number in range(3, last + 1) for letter in letters.get(number, " ")}
        assert {item for part in listed for item in _items(part, letters)} == wanted


def test_an_item_of_claim_that_is_wholly_unknown_is_not_said_to_be_answered(content) -> None:
    items = ";".join(re.findall(r"^\*(.*)\*$", card(content), flags=re.MULTILINE))
    answered = {number for part in re.findall(r"CLAIM ([^;]*)", items) for number in _numbers(part)}
    assert not {3, 5, 8, 12, *range(14, 20), 37, 39, 40, 41, 42} & answered


def test_every_field_is_there_without_subgroups_and_heat_maps(content) -> None:
    text = card(replace(content, subgroups=None, explanations=None))
    assert re.findall(r"^## (.*)$", text, flags=re.MULTILINE) == SECTIONS
    assert "They were not measured." in section(text, "Subgroups")
    assert "no heat maps were made" in section(text, "Where it looks")


@pytest.mark.parametrize("uncertain", ["positive", "negative"])
def test_labels_that_were_filled_in_are_said_to_be(content, uncertain) -> None:
    text = card(replace(content, parameters={**content.parameters, "task.uncertain": uncertain}))
    assert f"A label that a source calls uncertain is taken for {uncertain}" in section(text, "Data")


def test_the_card_of_several_labels_names_their_calibration_and_what_was_not_fitted(content) -> None:
    rule = {**content.decision_rule, "calibration": {"effusion": {"method": "isotonic"}}, "policy": {"rule": "fixed"}}
    text = card(replace(content, decision_rule=rule))
    assert "Probabilities are calibrated by isotonic, on validation images." in section(text, "Calibration")
    assert "it was not fitted. The calibration was fitted" in section(text, "Decision rule")


def test_a_source_of_test_images_alone_is_not_one_that_it_learned_from(content, source_counts) -> None:
    text = card(replace(content, source_counts=source_counts(a=(90, 10, 0), b=(0, 0, 20))))
    assert "only on images from the source “b”, which it did not learn from" in section(text, "Intended use")
    assert "- It was tested on images from the source “b”" in section(text, "Limits and cautions")


def test_the_limits_say_that_losses_may_add_up(content) -> None:
    assert "- Retraining compares a challenger with the champion of that day alone" in section(
        card(content), "Limits and cautions"
    )


def _items(items: str, letters: dict[int, str]) -> set[str]:
    """Items with their letter; a number alone is all that it has."""
    alone = {
        f"{number}{letter}"
        for number in _numbers(re.sub(r"\d+[a-g]", "", items))
        for letter in letters.get(number, " ")
    }
    return alone | set(re.findall(r"\d+[a-g]", items))


def _numbers(items: str) -> set[int]:
    spans = re.findall(r"(\d+) to (\d+)", items)
    return {int(number) for number in re.findall(r"\d+", items)} | {
        n for a, b in spans for n in range(int(a), int(b) + 1)
    }


def test_text_is_shown_and_not_obeyed(content) -> None:
    task = {**content.task, "title": "<script>alert(1)</script> [x](y) `z`"}
    text = card(replace(content, task=task))
    assert "<script>" not in text
    assert "\\[x\\](y) \\`z\\`" in text
    assert "images: Labels are from &lt;table>.csv." in text


def test_tables_of_markdown_keep_their_columns(content) -> None:
    tables = re.findall(r"(?:^\|.*\n)+", card(content), flags=re.MULTILINE)
    assert len(tables) >= 10
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


def test_markdown_stays_on_its_line() -> None:
    assert markdown("0.889\n0.851 to 0.924\n|<b>") == "0.889 (0.851 to 0.924 \\|&lt;b>)"


@pytest.mark.parametrize(("auc", "said"), [((0.9, 0.8, 0.95), ""), ((0.52, 0.4, 0.6), "it may be guessing")])
def test_the_short_card_says_how_good_what_for_and_where_the_rest_is(metrics_of, auc, said) -> None:
    metrics = {**metrics_of(auc=auc), "n_images": 119, "split": "test"}
    text = short_card(metrics, kind="binary", classes=("well", "ill"), phantom=False)
    assert text.startswith(f"AUC {auc[0]:.3f} on 119 test images.")
    assert said in text
    assert "not a medical device" in text
    assert "model_card.md, an artifact of the run that registered this version" in text
    assert "phantom" not in text
