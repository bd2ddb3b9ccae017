"""A search in the demo environment, and a run with the best parameters."""

import json

import mlflow
import pandas as pd
import pytest
import yaml

SMALL = (
    "effusion.sources.phantoms.n_patients=40,effusion.training.epochs=2,effusion.resolution.size=48,"
    "effusion.evaluation.replicates=200,effusion.tuning.n_trials=3"
)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory, new_project, kedro):
    """The project after the search."""
    folder = new_project(tmp_path_factory.mktemp("tuning") / "project")
    finished = kedro(folder, "run", "--env", "demo", "--pipeline=effusion_tuning", "--params", SMALL)
    assert finished.returncode == 0, finished.stdout
    return folder


@pytest.fixture(scope="module")
def reporting(tuned):
    return tuned / "data" / "demo" / "08_reporting" / "effusion"


@pytest.fixture(scope="module")
def runs(tuned):
    client = mlflow.MlflowClient(f"sqlite:///{tuned / 'mlflow.db'}")
    return client.search_runs([client.get_experiment_by_name("cxr-effusion-demo").experiment_id])


def test_no_trial_is_lost_or_repeated(reporting):
    trials = pd.read_csv(reporting / "tuning_trials.csv")
    finished = trials[trials["state"].isin(["complete", "pruned"])]
    assert len(finished) == 3
    assert finished["number"].is_unique
    assert finished["run_id"].is_unique
    study = json.loads((reporting / "tuning_study.json").read_text())
    assert study["best"]["value"] == trials.loc[trials["state"] == "complete", "value"].max()
    assert "PHANTOM IMAGES" in (reporting / "tuning.html").read_text()


def test_trials_are_nested_runs_that_never_saw_a_test_image(runs, reporting):
    trials = pd.read_csv(reporting / "tuning_trials.csv")
    nested = {run.info.run_id: run for run in runs if "mlflow.parentRunId" in run.data.tags}
    assert set(trials["run_id"]) <= set(nested)
    for run in nested.values():
        assert not [name for name in run.data.metrics if name.startswith("test/")]
    assert any("epoch/val_auc" in run.data.metrics for run in nested.values())


def test_a_run_takes_the_best_parameters_from_the_config_file(tuned, kedro, reporting):
    file = reporting / "best_parameters.yml"
    best = yaml.safe_load(file.read_text())["run"]["params"]["effusion"]
    finished = kedro(tuned, "run", "--config", str(file), "--params", "effusion.evaluation.replicates=150")
    assert finished.returncode == 0, finished.stdout
    client = mlflow.MlflowClient(f"sqlite:///{tuned / 'mlflow.db'}")
    (version,) = client.search_model_versions("name='cxr-effusion-demo'")
    params = client.get_run(version.run_id).data.params
    assert float(params["model.dropout"]) == pytest.approx(best["model"]["dropout"])
    assert float(params["training.learning_rate"]) == pytest.approx(best["training"]["learning_rate"])
    assert params["resolution.size"] == "48"
    assert params["evaluation.replicates"] == "150"
