import re

import pandas as pd
import pytest

from cxr_pipeline.report.pages.ablation import render_ablation

METRICS = {"accuracy": 0.75, "sensitivity": 0.8, "precision": 0.7, "specificity": 0.6, "balanced_accuracy": 0.71}
HOSTILE = "<script>alert('1')</script> & $x_"


def row(name, auc=0.812, *, difference=None, p_holm=None, **changed):
    made = {"cell": name, "is_baseline": False, "training.loss": None, "augmentation": None}
    for metric, value in {**METRICS, "auc": auc}.items():
        made |= {metric: value, f"{metric}_low": value - 0.051, f"{metric}_high": value + 0.048}
    ends = [None] * 3 if difference is None else [difference, difference - 0.02, difference + 0.03]
    made |= dict(zip(("auc_difference", "auc_difference_low", "auc_difference_high"), ends, strict=True))
    made |= {"p_value": None if p_holm is None else p_holm / 3, "p_holm": p_holm, "images_left_out": None}
    made |= {"not_compared": None, "collapsed": False, "n_images": 1300, "validation_auc": 0.8412, "kept_epoch": 7}
    return made | {"seconds": 1263.2, "peak_memory_mb": 2101.4, "error": None} | changed


BASELINE = row("baseline", is_baseline=True)


def failed(name, error, **changed):
    return {**dict.fromkeys(BASELINE), "cell": name, "is_baseline": False, "error": error, **changed}


def table_of(*rows):
    return pd.DataFrame(rows).astype({"p_holm": float, "collapsed": "boolean", "n_images": "Int64", "error": "string"})


CELLS = [
    BASELINE,
    row("plain loss", 0.7, difference=-0.112, p_holm=0.0301, **{"training.loss": "cross_entropy"}),
    row("without augmentation", 0.85, difference=0.038, p_holm=0.2, augmentation="null"),
    row(HOSTILE, 0.9, difference=0.088, p_holm=0.0001, collapsed=True),
    failed("broken", "UserError: <b>it</b>\n  diverged"),
]


@pytest.fixture
def page(read_page, drawn):
    def render(table, *, phantom=False, replicates=200):
        task = {"name": "effusion", "title": "Pleural effusion"}
        bootstrap = {"replicates": replicates, "confidence": 0.9}
        return read_page(render_ablation(table, task=task, phantom=phantom, bootstrap=bootstrap))

    return render


def test_the_page_has_every_number(page):
    table = table_of(*CELLS)
    rows = page(table).rows
    for expected in (
        ["cell", "AUC", "difference in AUC", "p-value", "p after Holm", "collapsed"],
        ["baseline", "0.812 (0.761 to 0.860)", "", "", "", ""],
        ["plain loss", "0.700 (0.649 to 0.748)", "-0.112 (-0.132 to -0.082)", "0.010", "0.030", ""],
        [HOSTILE, "0.900 (0.849 to 0.948)", "0.088 (0.068 to 0.118)", "below 0.001", "below 0.001", "yes"],
        ["broken", "failed", "", "", "", ""],
        ["plain loss", "0.750 (0.699 to 0.798)", "0.800 (0.749 to 0.848)", "0.600 (0.549 to 0.648)",
         "0.700 (0.649 to 0.748)", "0.710 (0.659 to 0.758)"],
        ["cell", "parameter", "value"],
        ["plain loss", "training.loss", "cross_entropy"],
        ["without augmentation", "augmentation", "null"],
        ["plain loss", "0.841", "7", "1,263", "2,101"],
        ["broken", "", "", "", ""],
        ["broken", "UserError: <b>it</b> diverged"],
    ):  # fmt: skip
        assert expected in rows
    assert "PHANTOM IMAGES" in page(table, phantom=True).text[""]


TOO_MANY = [BASELINE, *(row(str(n), difference=0.3, p_holm=1.0) for n in range(11))]
UNEQUAL = row("c", difference=0.1, p_holm=0.2, images_left_out=1200, collapsed=True, n_images=1100)
NO_AUC = {"auc": None, "auc_low": None, "auc_high": None}


@pytest.mark.parametrize(
    ("rows", "section", "sentences", "absent"),
    [
        (CELLS, "", [
            "Of 3 cells compared with the baseline, 2 differ significantly in AUC",
            "AUC of the baseline 0.812 (0.761 to 0.860)",
            "Baseline “baseline” Cells 5, each run once Test images 1,300",
        ], "without augmentation"),
        (CELLS, "differences", [
            "“plain loss”: AUC lower by 0.112 (0.082 to 0.132), p-value after Holm's correction 0.030.",
            f"“{HOSTILE}”: AUC higher by 0.088 (0.068 to 0.118), p-value after Holm's correction below 0.001.",
        ], "without augmentation"),
        (CELLS, "uncertainty", ["90 % intervals, by patient where patients are known; those of differences come from"],
         "without augmentation"),
        ([BASELINE, row("b", difference=0.3, p_holm=0.049)], "",
         ["Of 1 cell compared with the baseline, 1 differs"], "still exist"),
        ([BASELINE, row("b", difference=0.3, p_holm=0.05)], "",
         ["Of 1 cell compared with the baseline, none", "after Holm's correction 0.050", "still exist"], "“b”"),
        ([failed("a", "died", is_baseline=True), failed("b", "died")], "",
         ["No cell could be compared with the baseline."], "Test images"),
        ([BASELINE, UNEQUAL], "", ["Test images 1,100 to 1,300"], "could be"),
        (CELLS, "warnings", ["kedro run --pipeline=effusion_tuning, which does not use the test images",
                             f"Collapsed: “{HOSTILE}”.", "1 of 5 cells failed: “broken”."], "not compared"),
        ([{**BASELINE, "collapsed": True}, row("b", not_compared="No images in common."), UNEQUAL], "warnings", [
            "Collapsed: “baseline” and “c”.",
            "“b” was not compared with the baseline. No images in common.",
            "“c” and the baseline have different test images: 1,200 images",
        ], "failed"),
        ([BASELINE, row("b", difference=0.3, p_holm=0.1, images_left_out=0)], "warnings", [],
         "Collapsed|failed|not compared|replicates|different"),
        (TOO_MANY, "warnings", [
            "200 bootstrap replicates and 11 comparisons, p-values after Holm's correction cannot be below 0.109",
            "--params effusion.evaluation.replicates=2000",
        ], "Collapsed"),
    ],
)  # fmt: skip
def test_the_summary_and_the_warnings_name_cells(page, rows, section, sentences, absent):
    text = page(table_of(*rows)).text[section]
    for sentence in sentences:
        assert sentence in text
    assert not re.search(absent, text)


def test_enough_replicates_are_no_warning(page):
    assert "replicates" not in page(table_of(*TOO_MANY), replicates=2000).text["warnings"]


def test_undefined_metrics_and_too_few_patients_are_named(page):
    rows = page(table_of(row("a", is_baseline=True, auc_low=None, auc_high=None), row("b") | NO_AUC)).rows
    assert ["a (baseline)", "0.812 (too few patients)", "", "", "", ""] in rows
    assert ["b", "not defined", "", "", "", ""] in rows


def test_the_page_is_accessible(page, check_page):
    check_page(page(table_of(*CELLS)).html)
