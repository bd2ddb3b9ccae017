"""A search in the demo environment, and a run with the best parameters."""

import json

import demo_projects
import pandas as pd
import pytest
import yaml
from demo_projects import FEW_PATIENTS, arguments, client, succeeded, versions


@pytest.fixture(scope="module")
def tuned(tmp_path_factory, new_project, kedro):
    """The project after the search."""
    folder = new_project(tmp_path_factory.mktemp("tuning") / "project")
    succeeded(kedro(folder, *arguments("effusion_tuning", FEW_PATIENTS, "effusion.tuning.n_trials=3")))
    return folder


@pytest.fixture(scope="module")
def reporting(tuned):
    return demo_projects.reporting(tuned)


def test_no_trial_is_lost_or_repeated(reporting):
    trials = pd.read_csv(reporting / "tuning_trials.csv")
    finished = trials[trials["state"].isin(["complete", "pruned"])]
    assert len(finished) == 3
    assert finished["number"].is_unique
    assert finished["run_id"].is_unique
    study = json.loads((reporting / "tuning_study.json").read_text())
    assert study["best"]["value"] == trials.loc[trials["state"] == "complete", "value"].max()
    assert "PHANTOM IMAGES" in (reporting / "tuning.html").read_text()


def test_trials_are_nested_runs_that_never_saw_a_test_image(tuned, reporting):
    trials = pd.read_csv(reporting / "tuning_trials.csv")
    nested = {run.info.run_id: run for run in demo_projects.runs(tuned) if "mlflow.parentRunId" in run.data.tags}
    assert set(trials["run_id"]) <= set(nested)
    for run in nested.values():
        assert not [name for name in run.data.metrics if name.startswith("test/")]
    assert any("training/val_auc" in run.data.metrics for run in nested.values())


def test_a_run_takes_the_best_parameters_from_the_config_file(tuned, kedro, reporting):
    file = reporting / "best_parameters.yml"
    best = yaml.safe_load(file.read_text())["run"]["params"]["effusion"]
    succeeded(kedro(tuned, "run", "--config", str(file), "--params", "effusion.evaluation.replicates=150"))
    (version,) = versions(tuned)
    params = client(tuned).get_run(version.run_id).data.params
    assert float(params["model.dropout"]) == pytest.approx(best["model"]["dropout"])
    assert float(params["training.learning_rate"]) == pytest.approx(best["training"]["learning_rate"])
    assert params["resolution.size"] == "48"
    assert params["evaluation.replicates"] == "150"
