import re
from dataclasses import replace

import pandas as pd
import pytest

from cxr_pipeline.data.manifest import REASONS
from cxr_pipeline.report.formatting import wording
from cxr_pipeline.report.pages.report import render_card, render_report, short_card


def section(text, title):
    """Return the text of a section of a card."""
    return text.split(f"## {title}\n")[1].split("\n## ")[0]


def subgroups(*, evaluated=True):
    metrics = {name: {"value": 0.75, "low": 0.5, "high": 0.875} for name in ("auc", "sensitivity", "specificity")}
    group = {"n_images": 40, "n_patients": 20, "n_positive": {"effusion": 10}, "n_known": {"effusion": 40},
             "metrics": metrics, "per_class": {"effusion": metrics}}  # fmt: skip
    small = {**group, "n_images": 3, "metrics": {}, "per_class": {}}
    sex = {"n_unknown": 79, "groups": {"F": group if evaluated else small, "M": small}}
    silent = {"n_unknown": 119, "groups": {}}
    return {"min_patients": 10, "confidence": 0.95, "sex": sex, "age": silent, "view": silent}


def explanations():
    measure = {"value": 0.75, "low": 0.5, "high": 0.875}
    found = {"n_images": 20, "n_boxes": 21, "pointing_game": measure, "box_area": measure}
    return {"method": "Grad-CAM", "layer": "relu", "localisation": {"Mass": found},
            "randomised": {"n_shuffles": 5, "rank_correlation": measure, "pointing_game": None}}  # fmt: skip


def test_warnings_are_shown_and_a_poor_auc_is_reported_first(content, read_page):
    poor = {"auc": {"value": 0.55, "low": 0.4, "high": 0.7}}
    metrics = {**content.metrics, "metrics": {**content.metrics["metrics"], **poor}}
    missed = replace(content, warnings=["A policy is missed by <0.03>.", "Few images."], metrics=metrics)
    page = read_page(render_report(missed))
    assert "missed by <0.03>." in page.text["warnings"]
    assert "2 warnings" in page.text[""]
    assert "The model may be no better than chance" in page.text[""]
    card = render_card(missed)
    assert "- Few images." in section(card, "Warnings")
    assert "**The model may be no better than chance" in card


def test_report_and_card_have_the_same_sections_with_their_content(content, read_page):
    text = render_card(content)
    page = read_page(render_report(content))
    for name, fact in (
        ("AUC", "0.889 (0.851 to 0.924)"),
        ("specificity", "0.783 (0.690 to 0.860)"),
        ("Date", "2026-11-30 14:50:13 UTC"),
        ("MLflow run", "5f" * 16),
        ("Version", "cxr-effusion 3"),
        ("Test images", "119"),
    ):
        assert f"- {name}: {fact}" in text.split("\n## ")[0].splitlines()
        assert f"{name} {fact}" in page.text[""]
    assert page.text[""].index("The AUC is better than chance on 119 test images.") < page.text[""].index("0.889")
    contents = {
        "Performance on the test images": "| Brier score | 0.140 (0.120 to 0.170) |",
        "Intended use": "- Do not use it for diagnosis",
        "Decision rule and calibration": "Probabilities are calibrated with temperature scaling",
        "Subgroups": "Unknown for all test images: sex, age and view.",
        "Heat maps": "Heat maps were computed with Grad-CAM at the layer “relu”.",
        "Data": "They are from 640 patients",
        "Split": "Assigned by patient",
        "Model": "7,168,833 parameters",
        "Monitoring and updates": "kedro run --pipeline=effusion_drift",
        "Limitations": "- No source was used for testing only",
        "Unknown to this pipeline": "| ethical approval |  | 17 |",
    }
    assert re.findall(r"^## (.*)$", text, flags=re.MULTILINE) == list(contents)
    assert re.findall(r"<h2>(.*)</h2>", render_report(content)) == list(contents)
    for title, sentence in contents.items():
        assert sentence in section(text, title)
    assert "kedro run --env demo --pipeline=effusion_drift" in render_card(
        replace(content, metrics={**content.metrics, "phantom": True})
    )


def test_an_ensemble_has_its_cross_validation_beside_the_test_images(content, read_page):
    auc = {"value": 0.845, "low": 0.814, "high": 0.872}
    measured = {"folds": 2, "n_images": 691, "n_patients": None, "metrics": {"auc": auc, "average_precision": auc}}
    metrics = {**content.metrics, "cross_validation": {**measured, "auc_of_members": [0.811, 0.931]}}
    history = pd.concat([content.history, content.history.assign(member=2)], ignore_index=True)
    ensemble = replace(content, metrics=metrics, history=history, model={**content.model, "epochs": [1, 2]})
    page = read_page(render_report(ensemble))
    assert "691 training images, cross-validated" in page.html
    assert [row[-2:] for row in page.rows if "691" in row] == [["0.845 (0.814 to 0.872)"] * 2], page.rows
    assert "AUC of 2 of the 2 networks, each on its own fold, is 0.811 to 0.931" in page.html
    assert "Cross-validation" not in render_report(content)
    undefined = {**metrics, "cross_validation": {**measured, "auc_of_members": [None, None]}}
    assert "each on its own fold" not in render_report(replace(ensemble, metrics=undefined))


def test_the_origin_of_pretrained_weights_and_the_images_left_out_are_shown(content, read_page):
    weights = {"weights": "chest.safetensors", "source": "here", "licence": "MIT", "trained_on": ["nih", "vindr_cxr"]}
    about = {**content.data_report, "pretraining": {**weights, "seen": ["a" * 64, "b" * 64], "unlisted": []}}
    text = read_page(render_report(replace(content, data_report=about))).text["model"]
    assert "Pretrained weights: chest.safetensors (from here, licence MIT, trained on nih and vindr cxr)." in text
    assert "2 test images were used in pretraining, or other images of the same patients, and left out" in text
    unknown = {"weights": "x.h5", "source": "", "licence": "", "trained_on": [], "seen": [], "unlisted": []}
    text = section(render_card(replace(content, data_report={**about, "pretraining": unknown})), "Model")
    assert "Pretrained weights: x.h5 (of unknown origin)." in text


def test_the_tables_have_every_number_but_no_name_of_an_image(content, read_page):
    page = read_page(render_report(content))
    for row in (
        ["metric", "value (95 % interval)", "meaning"],
        ["AUC", "0.889 (0.851 to 0.924)", "probability that a positive image gets a higher score than a negative one"],
        ["calibration", "temperature scaling (temperature 1.5)"],
        ["positive validation images", "57"],
        ["images", "112,120", "9", "111,311", "9", "791", "640"],
        ["images", "no class of this task", "6"],
        ["sex", "F 310, M 330, unknown 151"],
        ["age in years", "known for 640, median 48.5"],
        ["effusion", "270", "57", "58"],
        ["patients", "500", "70", "unknown"],
        ["share of effusion", "0.174", "0.483", "0.487"],
        ["training.patience", "null"],
        ["git commit", "7d2e"],
        ["git commit of the training", "0f3a9c1d"],
        ["data digest", "9b" * 32],
        ["test digest", "7" * 64],
        ["fine-tuning", "2", "", "5e-05"],
    ):
        assert row in page.rows
    assert "images: Labels are from <table>.csv." in page.text["data"]
    assert "4711" not in page.html + render_card(content)
    assert "quarantine.csv" in page.text["data"]
    assert not re.search("Metrics by|class and source|threshold policies|Classification report|Confounding", page.html)


def test_subgroups_have_a_table_and_missing_ones_are_named(content, read_page):
    page = read_page(render_report(replace(content, subgroups=subgroups())))
    assert ["sex: F", "40", "20", "0.250", *["0.750 (0.500 to 0.875)"] * 3] in page.rows
    assert "fewer than 10 positive or 10 negative patients: sex M (3 images)" in page.text["subgroups"]
    assert "Unknown for all test images: age and view." in page.text["subgroups"]
    assert "Unknown and left out: sex for 79 images." in page.text["subgroups"]
    small = read_page(render_report(replace(content, subgroups=subgroups(evaluated=False))))
    assert "sex F (3 images) and sex M (3 images)" in small.text["subgroups"]
    assert not [row for row in small.rows if row[0] == "group"]


def test_figures_are_in_their_order_and_their_sections(content, png, read_page):
    figures = dict.fromkeys(
        ("augmentation_preview", "heatmaps_Pleural_Thickening", "heatmaps", "confusion", "roc"), png
    )
    page = read_page(render_report(replace(content, figures=figures)))
    images = page.attributes("img")
    places = [image["alt"].split(". ")[0] for image in images].index
    assert "if the source has any" in images[places("Heat maps")]["alt"]
    assert places("ROC curve") < places("Confusion matrix") < places("Heat maps")
    for anchor, title in (("performance", "ROC curve"), ("heatmaps", "Pleural_Thickening"), ("model", "Augmentation")):
        assert title in page.text[anchor]
    assert read_page(render_report(content)).attributes("img") == []


@pytest.fixture
def several(content):
    """The content for two labels from two sources, with everything that a report can show."""
    classes, measures, sources = ("Mass", "<Nodule>"), content.metrics["metrics"], ("nih", "kermany")
    per_class = dict.fromkeys(classes, measures)
    policies = [
        {"policy": {"rule": "youden"}, "chosen": True, "thresholds": {"Mass": 0.25}, "metrics": measures},
        {"policy": {"rule": "fixed", "value": 0.3}, "thresholds": {"Mass": 0.3}, "metrics": measures},
    ]
    thresholds = {"Mass": 0.25, "<Nodule>": 0.5}
    metrics = content.metrics | {
        "thresholds": thresholds,
        "prevalence": dict.fromkeys(classes, 0.487),
        "support": dict.fromkeys(classes, content.metrics["support"]["effusion"]),
        "per_class": per_class,
        "per_source": {name: {"n_images": 60, "metrics": measures, "per_class": per_class} for name in sources},
        "policies": policies,
    }
    rule = {"policy_met": True, "message": "Met.", "n_images": 119, "n_positive": 58}
    confounding = {"auc": 0.9, "accuracy": 0.8, "majority_accuracy": 0.5, "confounded": True,
                   "n_images": {"Mass": {"nih": 5, "kermany": 7}, "<Nodule>": {"nih": 6}, "normal": {"nih": 1}},
                   "per_class": {"Mass": {"auc": 0.9}, "<Nodule>": {"auc": None}}}  # fmt: skip
    counts = {"Mass": 60, "<Nodule>": 58, "images": 100, "patients": 70}
    return replace(
        content,
        task={**content.task, "kind": "multilabel", "classes": list(classes)},
        metrics=metrics,
        decision_rule={**content.decision_rule, "thresholds": thresholds, "per_class": dict.fromkeys(classes, rule),
                       "calibration": {name: {"method": "platt"} for name in classes}},
        data_report={**content.data_report, "unknown_labels": {"Mass": 4}, "confounding": confounding},
        split_counts=dict.fromkeys(content.split_counts, counts),
        explanations=explanations(),
        classification_report=pd.DataFrame({"precision": [0.5, None], "support": [58, 1200]}, index=list(classes)),
        confusion_table=pd.DataFrame([[50, 8], [0, 61]], index=pd.Index(classes, name="true class"), columns=classes),
    )  # fmt: skip


def test_a_report_of_several_classes_shows_everything_that_was_measured(several, read_page):
    page = read_page(render_report(several))
    auc, sensitivity, specificity = "0.889 (0.851 to 0.924)", "0.828 (0.750 to 0.900)", "0.783 (0.690 to 0.860)"
    for row in (
        ["class", "positive", "labelled", "threshold", "AUC", "sensitivity", "specificity", "precision"],
        ["<Nodule>", "58", "119", "0.500", auc, sensitivity, specificity, "0.772"],
        ["all sources", "119", auc, sensitivity, specificity, "0.772"],
        ["Mass", auc, auc, auc],
        ["Youden's index (chosen)", "0.250", sensitivity, specificity, "0.772"],
        ["fixed threshold (value 0.3)", "0.300", sensitivity, specificity, "0.772"],
        ["<Nodule>", "", "1,200"],
        ["Mass", "50", "8"],
        ["class", "threshold", "calibration", "policy met", "on the validation images", "images", "positive"],
        ["Mass", "0.250", "Platt scaling", "yes", "Met.", "119", "58"],
        ["class", "nih", "kermany", "AUC of the source alone"],
        ["Mass", "5", "7", "0.900"],
        ["<Nodule>", "6", "0", "not defined"],
        ["normal", "1", "0", ""],
        ["images with unknown label Mass", "4"],
        ["images", "100", "100", "100"],
        ["class", "images", "boxes", "maximum in a box", "share of area in boxes"],
        ["Mass", "20", "21", "0.750 (0.500 to 0.875)", "0.750 (0.500 to 0.875)"],
    ):
        assert row in page.rows
    assert not page.attributes("nodule")
    assert "Grad-CAM" in page.text["heatmaps"]
    assert "do not explain the model" in page.text["heatmaps"]


def numbers_of(items):
    """Return the numbers of a list such as ``"4, 6 to 8"``."""
    spans = [range(int(first), int(last)) for first, last in re.findall(r"(\d+) to (\d+)", items)]
    return {int(number) for number in re.findall(r"\d+", items)}.union(*spans)


def test_each_item_of_the_guidelines_is_either_answered_or_listed_as_unknown(content):
    answered = ";".join(re.findall(r"^\*(.*)\*$", render_card(content), flags=re.MULTILINE))
    for guideline, column, last in (("CLAIM", 1, 42), ("TRIPOD+AI", 2, 27)):
        unknown = [items[column] for items in wording()["not_answered"]["items"]]
        listed = [*re.findall(rf"{re.escape(guideline)} ([^;]*)", answered), *unknown]
        assert set().union(*map(numbers_of, listed)) == set(range(3, last + 1))
    claimed = set().union(*map(numbers_of, re.findall(r"CLAIM ([^;]*)", answered)))
    assert not {3, 5, 8, 12, *range(14, 20), 37, 39, 40, 41, 42} & claimed


def test_the_short_card_has_the_auc_the_purpose_and_the_place_of_the_card(metrics_of):
    task = {"kind": "binary", "classes": ("well", "ill")}
    text = short_card(metrics_of(auc=(0.52, 0.4, 0.6)), ["It may be no better than chance."], **task, phantom=False)
    assert text.startswith("AUC 0.520 on 119 test images.")
    for phrase in ("than chance", "labelled ill from images labelled well", "not a medical device", "model_card.md"):
        assert phrase in text
    phantom = short_card(metrics_of(), [], **task, phantom=True)
    assert ["phantom" in each for each in (text, phantom)] == [False, True]


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel"])
def test_no_key_and_no_value_of_an_enumeration_is_shown_as_it_is_stored(content, several, read_page, raw_keys, kind):
    """`read_page` and `raw_keys` look for them."""
    base = content if kind == "binary" else several
    measures = base.metrics["metrics"]
    measures = measures | dict.fromkeys(("accuracy", "balanced_accuracy", "average_precision", "ece"), measures["auc"])
    for method in ("platt", "temperature", "none"):
        for rule in ("youden", "argmax", "fixed", "target_sensitivity", "target_specificity"):
            shown = replace(
                base,
                task={**base.task, "kind": kind},
                decision_rule={
                    **base.decision_rule,
                    "kind": kind,
                    "policy": {"rule": rule, "value": 0.9},
                    "calibration": {"method": method, "message": "It failed.", "slope": 1.2},
                },
                metrics={
                    **base.metrics,
                    "metrics": measures,
                    "policies": [{"policy": {"rule": rule}, "thresholds": {}, "metrics": {}}],
                },
                quarantine=pd.DataFrame({"reason": REASONS}),
                history=content.history.assign(val_average_precision=0.5, val_loss=0.1, loss=0.2),
                parameters={**base.parameters, "training.monitor": "val_average_precision"},
                model={**base.model, "name": "efficientnetv2b0", "phase": "fine_tuning"},
            )
            read_page(render_report(shown))
            assert raw_keys(render_card(shown).replace("\\", "")) == []


def test_a_report_is_accessible(content, several, png, check_page):
    check_page(render_report(replace(content, subgroups=subgroups(), figures={"roc": png, "heatmaps": png})))
    check_page(render_report(replace(several, warnings=["A warning."])))


def test_the_run_on_a_server_is_a_link(content, read_page):
    address = "https://host/#/experiments/7/runs/ab"
    served = replace(content, version={**content.version, "run_url": address})
    assert {"href": address, "rel": "noreferrer"} in read_page(render_report(served)).attributes("a")
