from datetime import UTC, datetime, timedelta
from inspect import signature

import mlflow
import pytest

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.tracking import model_index

PROVENANCE = {"task": "effusion", "images": "real", "test_digest": "f" * 64, "data_digest": "d" * 64}
METRICS = {
    "test/n_images": 40,
    "test/auc": 0.875,
    "test/auc_low": 0.75,
    "test_details/auc_high": 0.9375,
    "training/loss": 0.5,
}


def log(name, *, parent=None, status="FINISHED", **metrics):
    """Log a run and return its id; without metrics it has those of a model on test images."""
    tags = {"mlflow.parentRunId": parent} if parent else {}
    run = mlflow.start_run(run_name=name, tags=PROVENANCE | tags)
    mlflow.log_metrics({name.replace("__", "/"): value for name, value in metrics.items()} or METRICS)
    mlflow.log_params({"training.epochs": 3})
    mlflow.end_run(status)
    return run.info.run_id


def register(run_id, name, store, **tags):
    client = mlflow.MlflowClient()
    client.create_model_version(name, source=str(store), run_id=run_id, tags=PROVENANCE | tags)


@pytest.fixture(scope="module")
def runs(store):
    """Runs by name, some of them registered, in this project's experiments and in another's."""
    client, made = mlflow.MlflowClient(), {}
    for name in ("cxr-effusion", "cxr-'); DROP TABLE runs; --", "foreign"):
        client.create_registered_model(name)
    mlflow.set_experiment("cxr-effusion")
    made["effusion"] = log("effusion")
    parent = log("effusion_ablation", loss=1)
    made["cell"] = log("no augmentation", parent=parent)
    log("trial 1", parent=parent, validation__auc=0.9)
    log("failing", parent=parent, status="FAILED")
    made["registered cell"] = log("retraining", parent=parent)
    made["orphan"] = log("orphan", parent="0" * 32)
    log("killed before it was registered")
    client.delete_run(log("withdrawn", parent=parent))
    mlflow.set_experiment("another project")
    made["not ours"] = log("not ours", parent=parent)
    log("a cell of theirs", parent=parent)
    for run in ("effusion", "registered cell", "not ours"):
        register(made[run], "cxr-effusion", store)
    register("1" * 32, "cxr-effusion", store)
    register(made["effusion"], "cxr-'); DROP TABLE runs; --", store)
    register(made["effusion"], "foreign", store)
    client.set_registered_model_alias("cxr-effusion", "champion", "2")
    client.set_registered_model_alias("cxr-effusion", "best", "2")
    client.set_registered_model_alias("cxr-effusion", "challenger", "1")
    return made


@pytest.fixture(scope="module")
def found(runs):
    entries = model_index.measured_models()
    assert len({entry.name for entry in entries}) == len(entries)
    return {entry.name: entry for entry in entries}


def test_versions_and_cells_are_found_and_nothing_else(found):
    versions = {*(f"cxr-effusion {number}" for number in (1, 2, 3, 4)), "cxr-'); DROP TABLE runs; -- 1"}
    cells = {"effusion_ablation: no augmentation", "effusion_ablation: failing", "orphan"}
    assert {name for name, entry in found.items() if entry.kind == "version"} == versions
    assert {name for name, entry in found.items() if entry.kind == "cell"} == cells


def test_a_version_has_the_results_of_its_run(found, runs):
    entry = found["cxr-effusion 1"]
    assert {name: getattr(entry, name) for name in PROVENANCE} == PROVENANCE
    assert entry.metrics == {"n_images": 40, "auc": 0.875, "auc_low": 0.75, "auc_high": 0.9375}
    assert entry.parameters == {"training.epochs": "3"}
    assert entry.run_id == runs["effusion"]
    assert entry.experiment_id == mlflow.get_experiment_by_name("cxr-effusion").experiment_id
    assert entry.unfinished is None
    assert timedelta(0) <= datetime.now(UTC) - entry.date < timedelta(minutes=5)
    assert (entry.url, entry.run_url) == (None, None)


def test_a_version_has_its_aliases_and_its_run_may_be_in_another_experiment_or_gone(found, runs):
    aliases = {name: entry.aliases for name, entry in found.items() if entry.aliases}
    assert aliases == {"cxr-effusion 1": ("challenger",), "cxr-effusion 2": ("best", "champion")}
    assert found["cxr-effusion 3"].run_id == runs["not ours"]
    assert found["cxr-effusion 3"].metrics["auc"] == 0.875
    gone = found["cxr-effusion 4"]
    assert (gone.run_id, gone.run_url, gone.metrics, gone.parameters) == (None, None, {}, {})


def test_the_records_of_a_model_are_listed_newest_first(runs, store):
    uri = f"sqlite:///{store}/mlflow.db"
    records = model_index.versions_of("cxr-effusion", uri)
    names = ("effusion", "registered cell", "not ours")
    assert [record.number for record in records] == [4, 3, 2, 1]
    assert [record.run_id for record in records] == [None, *(runs[name] for name in reversed(names))]
    newest, *_, first = records
    assert (newest.metrics, newest.parameters) == ({}, {})
    assert (first.metrics["auc"], first.parameters) == (0.875, {"training.epochs": "3"})
    assert first.aliases == ("challenger",)
    assert model_index.settings_of(first) == {}, "The version has no model."
    with pytest.raises(UserError, match="Train one first: kedro run --env demo --pipeline=effusion"):
        model_index.versions_of("cxr-effusion-demo", uri)


def test_an_unavailable_server_is_not_taken_for_a_missing_run(monkeypatch, runs):
    def fail(*arguments):
        raise mlflow.MlflowException("the server is gone")

    monkeypatch.setattr(mlflow.MlflowClient, "get_run", fail)
    with pytest.raises(mlflow.MlflowException, match="the server is gone"):
        model_index.measured_models()


def test_results_of_several_pages_are_read_completely(monkeypatch, found):
    for name in ("search_runs", "search_model_versions", "search_registered_models", "search_experiments"):
        search = getattr(mlflow.MlflowClient, name)

        def one_by_one(*arguments, search=search, **wanted):
            bound = signature(search).bind(*arguments, **wanted)
            bound.arguments["max_results"] = 1
            return search(*bound.args, **bound.kwargs)

        monkeypatch.setattr(mlflow.MlflowClient, name, one_by_one)
    assert {entry.name: entry for entry in model_index.measured_models()} == found
