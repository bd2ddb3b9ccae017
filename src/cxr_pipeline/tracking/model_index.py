"""The index of all models of this project with test metrics in MLflow."""

from collections.abc import Mapping
from typing import Any

import mlflow

from cxr_pipeline.experiments.leaderboard import Entry
from cxr_pipeline.tracking.queries import find_run, read_test_metrics, registered_versions, to_datetime
from cxr_pipeline.tracking.server import run_url, version_url

_OF_THIS_PROJECT = "name LIKE 'cxr-%'"
_EVALUATED = "metrics.`test/n_images` > 0"
_PARENT = "mlflow.parentRunId"


def measured_models() -> list[Entry]:
    """Read every registered version ``cxr-*``, then every cell of an experiment that has test metrics.

    A cell is a nested run of an MLflow experiment ``cxr-*``. One that registered a version is listed as that version.
    """
    client = mlflow.MlflowClient()
    ids = [experiment.experiment_id for experiment in mlflow.search_experiments(filter_string=_OF_THIS_PROJECT)]
    # Without ids MLflow searches the active experiment.
    evaluated = mlflow.search_runs(ids, _EVALUATED, output_format="list") if ids else []
    runs = {run.info.run_id: run for run in evaluated}
    versions = [_version(*found) for found in registered_versions(_OF_THIS_PROJECT, runs) if found[0].status == "READY"]
    registered = {version.run_id for version in versions}
    cells = [run for key, run in runs.items() if _PARENT in run.data.tags and key not in registered]
    parents = {run.data.tags[_PARENT] for run in cells}
    names = {parent: run.info.run_name for parent in parents if (run := runs.get(parent) or find_run(client, parent))}
    return [*versions, *(_cell(run, names.get(run.data.tags[_PARENT])) for run in cells)]


def _version(version: Any, aliases: tuple[str, ...], run: Any) -> Entry:
    number = int(version.version)
    return Entry(
        kind="version",
        name=f"{version.name} {number}",
        aliases=aliases,
        date=to_datetime(version.creation_timestamp),
        url=version_url(mlflow.get_tracking_uri(), version.name, number),
        **_provenance(version.tags),
        **_results(run),
    )


def _cell(run: Any, parent: str | None) -> Entry:
    return Entry(
        kind="cell",
        name=": ".join(filter(None, (parent, run.info.run_name))),
        date=to_datetime(run.info.end_time or run.info.start_time),
        unfinished=None if run.info.status == "FINISHED" else run.info.status.lower(),
        **_provenance(run.data.tags),
        **_results(run),
    )


def _provenance(tags: Mapping[str, str]) -> dict[str, Any]:
    return {name: tags.get(name) for name in ("task", "images", "test_digest", "data_digest")}


def _results(run: Any) -> dict[str, Any]:
    """Metrics and parameters of a model's run, and its address; empty if the run no longer exists."""
    if run is None:
        return {"metrics": {}, "parameters": {}, "experiment_id": None, "run_id": None, "run_url": None}
    ids = {"experiment_id": run.info.experiment_id, "run_id": run.info.run_id}
    url = run_url(mlflow.get_tracking_uri(), **ids)
    return {"metrics": read_test_metrics(run), "parameters": dict(run.data.params), "run_url": url, **ids}
