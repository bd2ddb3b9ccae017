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
COLUMNS = [
    *(f"{name}{end}" for name in METRICS for end in ("", "_low", "_high")),
    *("auc_difference", "auc_difference_low", "auc_difference_high", "p_value", "p_holm"),
    *("images_left_out", "not_compared", "collapsed", "n_images"),
    *("validation_auc", "kept_epoch", "seconds", "peak_memory_mb", "error", "commit"),
]


def scores(*, seed=0, skill=1.5, n_images=200, threshold=0.5):
    """A score table with decisions of two images per patient, the same images for every seed."""
    rng = np.random.default_rng(0)
    y_true, hardness = np.eye(3)[rng.integers(3, size=n_images), 0], rng.normal(size=n_images)
    raised = np.exp(skill * y_true + hardness + 0.7 * np.random.default_rng(seed).normal(size=n_images))
    probability = raised / (1.5 + raised)
    return pd.DataFrame(
        {
            "source": "images",
            "image": [f"{number:04}.png" for number in range(n_images)],
            "patient_id": [f"p{number // 2:03}" for number in range(n_images)],
            "true_mass": y_true,
            "probability_mass": probability,
            "predicted_mass": probability >= threshold,
        }
    )


def result(parameters=None, **options):
    table = scores(**options)
    metrics = {"kind": "binary", **evaluate(table, **ONE)}
    return CellResult(parameters or {}, metrics, table, 0.81, 7, 63.25, 2100.0)


@pytest.fixture(scope="module")
def cells():
    return {
        "baseline": result(),
        "without <morphology>": result({"morphology.steps": [], "training.loss": "focal"}, seed=1, skill=1.4),
        "without augmentation": result({"augmentation": None}, seed=2, skill=0.3),
        "broken": CellResult({"training.learning_rate": 10.0}, error="it diverged"),
        "always": result({"thresholds.rule": "fixed"}, seed=3, threshold=0.0),
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


def test_a_cell_that_always_decides_the_same_is_collapsed(table):
    assert table["collapsed"].dropna().to_dict() == {
        **{"baseline": False, "without <morphology>": False, "without augmentation": False},
        "always": True,
    }


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
