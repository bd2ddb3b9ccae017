from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from cxr_pipeline.evaluation.evaluate import evaluate
from cxr_pipeline.evaluation.paired_bootstrap import holm, paired_differences
from cxr_pipeline.experiments.cell_table import METRICS, cell_table
from cxr_pipeline.experiments.cells import CellResult

BOOTSTRAP = {"replicates": 200, "confidence": 0.95, "seed": 3}
ONE = {"outputs": ("mass",), "exclusive": False, "bootstrap": BOOTSTRAP}
NAMES = ("a", "b", "c")
COLUMNS = [
    *(f"{name}{end}" for name in METRICS for end in ("", "_low", "_high")),
    *("auc_difference", "auc_difference_low", "auc_difference_high", "p_value", "p_holm"),
    *("images_left_out", "not_compared", "collapsed", "n_images"),
    *("validation_auc", "kept_epoch", "seconds", "peak_memory_mb", "error", "commit"),
]


def labelled_images(n_images, outputs=("mass",)):
    rng = np.random.default_rng(0)
    images = [f"{number:04}.png" for number in range(n_images)]
    table = pd.DataFrame(
        {"source": "images", "image": images, "patient_id": [f"p{n // 2:03}" for n in range(n_images)]}
    )
    y_true = np.eye(3)[rng.integers(3, size=n_images)]
    return table, y_true[:, : len(outputs)], rng.normal(size=(n_images, len(outputs)))


def scores(*, seed=0, skill=1.5, n_images=200, predicted=None, outputs=("mass",)):
    """A score table with decisions; ``predicted`` is a threshold, or for exclusive classes the class always decided."""
    table, y_true, hardness = labelled_images(n_images, outputs)
    raised = np.exp(skill * y_true + hardness + 0.7 * np.random.default_rng(seed).normal(size=y_true.shape))
    exclusive = len(outputs) > 1
    probability = raised / raised.sum(axis=1, keepdims=True) if exclusive else raised / (1.5 + raised)
    best = probability.argmax(axis=1) if predicted is None else np.full(n_images, predicted)
    decided = np.eye(len(outputs))[best] == 1 if exclusive else probability >= (0.5 if predicted is None else predicted)
    for place, output in enumerate(outputs):
        table[f"true_{output}"], table[f"probability_{output}"] = y_true[:, place], probability[:, place]
        table[f"predicted_{output}"] = decided[:, place]
    return table


def result(parameters=None, *, kind="binary", settings=ONE, **options):
    table = scores(outputs=settings["outputs"], **options)
    metrics = {"kind": kind, **evaluate(table, **settings)}
    return CellResult(parameters or {}, metrics, table, 0.81, 7, 63.25, 2100.0)


@pytest.fixture(scope="module")
def cells():
    return {
        "baseline": result(),
        "without <morphology>": result({"morphology.steps": [], "training.loss": "focal"}, seed=1, skill=1.4),
        "without augmentation": result({"augmentation": None}, seed=2, skill=0.3),
        "broken": CellResult({"training.learning_rate": 10.0}, error="it diverged"),
        "always": result({"thresholds.rule": "fixed"}, seed=3, predicted=0.0),
    }


@pytest.fixture(scope="module")
def table(cells):
    return cell_table(cells, baseline="baseline", **ONE).set_index("cell")


def test_every_cell_has_a_row_and_every_parameter_a_column(cells, table):
    parameters = ["morphology.steps", "training.loss", "augmentation", "training.learning_rate", "thresholds.rule"]

    assert table.index.tolist() == list(cells)
    assert table.columns.tolist() == ["is_baseline", *parameters, *COLUMNS]
    written = table[parameters].astype(object).where(table[parameters].notna(), "").to_numpy().tolist()
    assert written == [
        ["", "", "", "", ""],
        ["[]", "focal", "", "", ""],
        ["", "", "null", "", ""],
        ["", "", "", "10.0", ""],
        ["", "", "", "", "fixed"],
    ]


def test_measures_are_those_of_the_metrics_with_their_intervals(cells, table):
    for name, found in cells.items():
        if found.metrics is None:
            continue
        for measure in METRICS:
            expected = found.metrics["metrics"][measure]
            row = table.loc[name, [measure, f"{measure}_low", f"{measure}_high"]].tolist()
            assert row == [expected[key] for key in ("value", "low", "high")]
    row = table.loc["without augmentation", ["n_images", "validation_auc", "kept_epoch", "seconds", "peak_memory_mb"]]
    assert row.tolist() == [200, 0.81, 7, 63.25, 2100]


def test_every_other_cell_is_compared_with_the_baseline_and_adjusted_for_them_all(cells, table):
    compared = ["without <morphology>", "without augmentation", "always"]
    for name in compared:
        expected = paired_differences(cells[name].test_scores, cells["baseline"].test_scores, **ONE)["auc"]
        row = table.loc[name, ["auc_difference", "auc_difference_low", "auc_difference_high", "p_value"]].tolist()
        assert row == list(expected.values())
    assert table.loc[compared, "p_holm"].tolist() == holm(table.loc[compared, "p_value"].tolist())
    assert table.loc["without augmentation", "p_holm"] == pytest.approx(3 * 2 / 201)
    assert table.loc[["baseline", "broken"], ["auc_difference", "p_value", "p_holm"]].isna().all(axis=None)
    assert table.loc[compared, "images_left_out"].tolist() == [0, 0, 0]
    assert table["not_compared"].isna().all()


def test_a_failed_cell_is_a_row_with_its_error(table):
    row = table.loc["broken"].dropna()

    assert row.to_dict() == {"is_baseline": False, "training.learning_rate": "10.0", "error": "it diverged"}
    assert table["error"].notna().sum() == 1


def test_the_baseline_is_the_first_cell_by_default(cells):
    table = cell_table(cells, baseline=None, **ONE)
    assert table.loc[table["is_baseline"], "cell"].tolist() == ["baseline"]


@pytest.mark.parametrize(
    ("given", "message"), [({}, "must have a cell"), ({"one": CellResult()}, "one of one. Received: 'two'")]
)
def test_an_ablation_without_its_baseline_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        cell_table(given, baseline="two", **ONE)


def test_with_a_failed_baseline_nothing_is_compared(cells):
    table = cell_table(cells, baseline="broken", **ONE).set_index("cell")

    assert table[["auc_difference", "p_value", "p_holm"]].isna().all(axis=None)
    others = table.drop(index="broken")
    assert (others["not_compared"] == "The baseline failed.").all()
    assert others["auc"].notna().all()
    assert table["not_compared"].isna()["broken"]


def test_a_cell_tested_on_other_images_is_compared_on_those_in_common_or_says_why_not(cells):
    fewer = result(seed=1, n_images=180)
    fewer = replace(fewer, test_scores=fewer.test_scores.iloc[:150])
    elsewhere = replace(cells["always"], test_scores=cells["always"].test_scores.assign(source="elsewhere"))

    table = cell_table({"first": cells["always"], "fewer": fewer, "elsewhere": elsewhere}, baseline=None, **ONE)

    assert table["images_left_out"][1] == 50
    assert table["p_value"].notna().tolist() == [False, True, False]
    assert "no test image in common" in table["not_compared"][2]
    assert table["not_compared"].isna().tolist() == [True, True, False]
    assert table["auc"].notna().all()


SEVERAL = {"outputs": NAMES, "bootstrap": BOOTSTRAP}


@pytest.mark.parametrize(
    ("kind", "settings", "predicted", "collapsed"),
    [
        ("binary", ONE, 0.0, True),
        ("binary", ONE, 1.0, True),
        ("binary", ONE, None, False),
        ("multiclass", {**SEVERAL, "exclusive": True}, 2, True),
        ("multiclass", {**SEVERAL, "exclusive": True}, None, False),
    ],
)
def test_a_cell_that_always_decides_the_same_is_collapsed(kind, settings, predicted, collapsed):
    cell = result(kind=kind, settings=settings, predicted=predicted)
    assert cell_table({"one": cell}, baseline=None, **settings)["collapsed"].tolist() == [collapsed]


def test_of_several_labels_one_is_enough_to_collapse():
    settings = {**SEVERAL, "exclusive": False}
    table = scores(outputs=NAMES)
    stuck = table.assign(predicted_b=False)
    cells = {
        name: CellResult({}, {"kind": "multilabel", **evaluate(each, **settings)}, each)
        for name, each in (("fine", table), ("stuck", stuck))
    }
    assert cell_table(cells, baseline=None, **settings)["collapsed"].tolist() == [False, True]


def test_the_same_decisions_differ_in_nothing(cells):
    table = cell_table({"one": cells["baseline"], "two": cells["baseline"]}, baseline="one", **ONE)

    assert table.loc[1, ["auc_difference", "p_value", "p_holm"]].tolist() == [0, 1, 1]


def test_columns_have_one_type_each_and_keep_it_in_a_file(cells, table, tmp_path):
    flat = table.reset_index()
    flat.to_parquet(tmp_path / "cells.parquet")

    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "cells.parquet"), flat)
    assert flat[["kept_epoch", "n_images", "collapsed", "error"]].dtypes.tolist() == [
        pd.Int64Dtype(),
        pd.Int64Dtype(),
        pd.BooleanDtype(),
        pd.StringDtype(),
    ]
    only_failed = cell_table({"broken": cells["broken"]}, baseline=None, **ONE)
    assert only_failed.dtypes[COLUMNS].tolist() == flat.dtypes[COLUMNS].tolist()
