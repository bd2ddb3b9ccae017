import itertools
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_scores import decided_table

from cxr_pipeline.common.provenance import git_commit
from cxr_pipeline.evaluation.evaluate import evaluate
from cxr_pipeline.evaluation.paired_bootstrap import holm, paired_differences
from cxr_pipeline.experiments import cells as module
from cxr_pipeline.experiments.cells import METRICS, cell_table
from cxr_pipeline.experiments.jobs import Outcome


def outcome(error=None):
    return Outcome("a cell", error, seconds=3.5, peak_memory_mb=900.0)


@given(st.dictionaries(st.sampled_from("abc"), st.lists(st.sampled_from("pqr"), min_size=1, unique=True), max_size=3))
def test_a_grid_has_every_combination_with_the_last_factor_varying_fastest(factors):
    grid = module.cross({name: {level: {name: level} for level in levels} for name, levels in factors.items()})
    assert list(grid.items()) == [
        (", ".join(levels), dict(zip(factors, levels, strict=True))) for levels in itertools.product(*factors.values())
    ]


def test_a_folder_has_a_readable_and_valid_name(tmp_path):
    one, two = (module.cell_folder(tmp_path, "vgg16, not augmented/..", digest * 20) for digest in ("ab", "cd"))
    assert one == tmp_path / "vgg16_not_augmented_-abababababab"
    assert one != two
    long = module.cell_folder(tmp_path, ", ".join(letter * 58 for letter in "abcde"), "ab" * 20)
    assert len(long.name) < 143
    module.save_outcome(long, outcome())
    assert module.is_done(long)


def test_only_a_cell_that_succeeded_is_done(tmp_path):
    assert not module.is_done(tmp_path)
    module.save_outcome(tmp_path, outcome("it diverged"))
    assert not module.is_done(tmp_path)
    without_run = {"run_id": None, "commit": None, "name": "a cell", "error": "it diverged"}
    assert module.load_outcome(tmp_path).items() >= without_run.items()
    module.save_outcome(tmp_path, outcome())
    module.save_mlflow_run(tmp_path, "7f")
    assert module.is_done(tmp_path)
    assert module.load_outcome(tmp_path).items() >= {"run_id": "7f", "commit": git_commit()}.items()
    for damaged in ('{"name": "a cell", "err', "5"):
        (tmp_path / "outcome.json").write_text(damaged)
        assert not module.is_done(tmp_path)


BOOTSTRAP = {"replicates": 200, "confidence": 0.95, "seed": 3}
MASS = {"outputs": ("mass",), "exclusive": False, "bootstrap": BOOTSTRAP}
TRAINING = {"monitor": "val_auc", "tolerance": 0.0, "patience": None, "folds": 1, "loss": "focal"}
HISTORY = pd.DataFrame({"epoch": [1, 2, 3], "member": 1, "val_auc": [0.7, 0.8, 0.6], "val_recall": [0.2, 0.5, 0.9]})
COLUMNS = [
    *(f"{name}{end}" for name in METRICS for end in ("", "_low", "_high")),
    *("auc_too_few_patients", "auc_difference", "auc_difference_low", "auc_difference_high", "p_value", "p_holm"),
    *("images_left_out", "not_compared", "collapsed", "n_images"),
    *("validation_auc", "kept_epoch", "seconds", "peak_memory_mb", "error", "commit"),
]


def scores(*, seed=0, skill=1.5, n_images=200, threshold=0.5):
    """Return a score table with two images per patient; the images do not depend on the seed."""
    rng = np.random.default_rng(0)
    y_true, hardness = np.eye(3)[rng.integers(3, size=n_images), 0], rng.normal(size=n_images)
    raised = np.exp(skill * y_true + hardness + 0.7 * np.random.default_rng(seed).normal(size=n_images))
    labels, probability = y_true[:, None], (raised / (1.5 + raised))[:, None]
    patients = [f"p{number // 2:03}" for number in range(n_images)]
    return decided_table(labels, probability, ["mass"], predicted=probability >= threshold, patient_id=patients)


@pytest.fixture(scope="module")
def make_cell(tmp_path_factory):
    """Make a cell of the task "t" with the files of its run."""

    def make(name, overrides, table=None, error=None):
        folder = tmp_path_factory.mktemp("cell")
        if table is not None:
            reporting, output = folder / "08_reporting" / "t", folder / "07_model_output" / "t"
            reporting.mkdir(parents=True)
            output.mkdir(parents=True)
            HISTORY.to_csv(reporting / "history.csv", index=False)
            (reporting / "metrics.json").write_text(json.dumps({"kind": "binary", **evaluate(table, **MASS)}))
            table.to_parquet(output / "test_scores.parquet")
        costs = {"seconds": 63.25, "peak_memory_mb": 2100.0, "commit": "c0ffee"}
        return {"name": name, "overrides": overrides, "folder": str(folder), "error": error, **costs}

    return make


@pytest.fixture(scope="module")
def cells(make_cell):
    return [
        make_cell("baseline", {}, scores()),
        make_cell("recall", {"training": {"monitor": "val_recall"}, "morphology": {"steps": []}}, scores(seed=1)),
        make_cell("without augmentation", {"augmentation": None}, scores(seed=2, skill=0.3)),
        make_cell("broken", {"training": {"learning_rate": 10.0}}, error="it diverged"),
        make_cell("always", {"thresholds": {"rule": "fixed"}}, scores(seed=3, threshold=0.0)),
    ]


def tabulate(cells):
    return cell_table(cells, task="t", training=TRAINING, **MASS).set_index("cell")


@pytest.fixture(scope="module")
def table(cells):
    return tabulate(cells)


def test_every_cell_has_a_row_and_every_parameter_a_column(cells, table):
    parameters = ["training.monitor", "morphology.steps", "augmentation", "training.learning_rate", "thresholds.rule"]
    assert table.index.tolist() == [cell["name"] for cell in cells]
    assert table.columns.tolist() == ["is_baseline", *parameters, *COLUMNS]
    assert table["is_baseline"].tolist() == [True, False, False, False, False]
    assert table[parameters].astype(object).where(table[parameters].notna(), "").to_numpy().tolist() == [
        ["", "", "", "", ""],
        ["val_recall", "[]", "", "", ""],
        ["", "", "null", "", ""],
        ["", "", "", "10.0", ""],
        ["", "", "", "", "fixed"],
    ]


def test_a_row_has_the_metrics_the_selected_epoch_and_the_costs(table):
    metrics = evaluate(scores(seed=1), **MASS)["metrics"]
    for name in METRICS:
        row = table.loc["recall", [name, f"{name}_low", f"{name}_high"]].tolist()
        assert row == [metrics[name][key] for key in ("value", "low", "high")]
    costs = table.loc["recall", ["n_images", "seconds", "peak_memory_mb", "commit", "collapsed"]]
    assert costs.tolist() == [200, 63.25, 2100, "c0ffee", False]
    assert table.loc["baseline", ["validation_auc", "kept_epoch"]].tolist() == [0.8, 2]
    assert table.loc["recall", ["validation_auc", "kept_epoch"]].tolist() == [0.6, 3]
    assert table.loc["always", "collapsed"]


def test_every_other_cell_is_compared_with_the_baseline_with_adjusted_p_values(table):
    compared = {"recall": scores(seed=1), "without augmentation": scores(seed=2, skill=0.3), "always": scores(seed=3)}
    for name, other in compared.items():
        expected = paired_differences(other, scores(), **MASS)["auc"]
        row = table.loc[name, ["auc_difference", "auc_difference_low", "auc_difference_high", "p_value"]].tolist()
        assert row == list(expected.values())
    assert table.loc[list(compared), "p_holm"].tolist() == holm(table.loc[list(compared), "p_value"].tolist())
    assert table.loc["without augmentation", "p_holm"] == pytest.approx(3 * 2 / 201)
    assert table.loc[["baseline", "broken"], ["auc_difference", "p_value", "p_holm"]].isna().all(axis=None)
    assert table.loc[list(compared), "images_left_out"].tolist() == [0, 0, 0]
    assert table["not_compared"].isna().all()


def test_a_failed_cell_has_its_error_and_is_not_compared(cells, table):
    expected = {"is_baseline": False, "training.learning_rate": "10.0", "error": "it diverged", "commit": "c0ffee"}
    assert table.loc["broken"].dropna().to_dict() == expected
    assert table["error"].notna().sum() == 1
    table = tabulate([cells[3], *cells[:2]])
    assert table[["auc_difference", "p_value", "p_holm"]].isna().all(axis=None)
    assert table["not_compared"].fillna("").tolist() == ["", *["The baseline failed."] * 2]
    assert table["auc"].notna().tolist() == [False, True, True]


def test_a_cell_is_compared_on_common_images_or_has_a_reason(cells, make_cell):
    fewer = make_cell("fewer", {}, scores(seed=1).iloc[:150])
    elsewhere = make_cell("elsewhere", {}, scores().assign(source="elsewhere"))
    table = tabulate([cells[0], fewer, elsewhere])
    assert table["images_left_out"].iloc[1] == 50
    assert table["p_value"].notna().tolist() == [False, True, False]
    assert table["not_compared"].isna().tolist() == [True, True, False]
    assert "no test image in common" in table["not_compared"].iloc[2]
