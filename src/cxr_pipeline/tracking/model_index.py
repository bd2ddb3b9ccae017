"""The registered versions and the models with test metrics in MLflow."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import mlflow

from cxr_pipeline.experiments.leaderboard import Entry
from cxr_pipeline.tracking.runs import CELL, PIPELINE, find_run
from cxr_pipeline.tracking.server import connect, run_url, version_url
from cxr_pipeline.tracking.versions import no_version

_OF_THIS_PROJECT = "name LIKE 'cxr-%'"
_EVALUATED = "metrics.`test/n_images` > 0"
_PARENT = "mlflow.parentRunId"
_SETTINGS = "artifacts/classifier/classifier.json"


@dataclass(frozen=True, kw_only=True)
class VersionRecord(Entry):
    """A registered version. If its run was deleted, it has no ``run_id``, metrics and parameters."""

    model: str
    number: int
    tags: Mapping[str, str]


def versions_of(name: str, uri: str, *, artifacts: str | None = None) -> list[VersionRecord]:
    """Read every version of a registered model, newest first, from the MLflow at ``uri``; none is a `UserError`."""
    connect(uri, artifacts=artifacts)
    records = _registered_versions(f"name='{name}'", {})
    if not records:
        raise no_version(name)
    return sorted(records, key=lambda record: record.number, reverse=True)


def settings_of(record: VersionRecord) -> dict[str, Any]:
    """Read the ``recipe`` and ``decision_rule`` stored with the weights of a version; empty if they are missing."""
    try:
        settings: dict[str, Any] = mlflow.artifacts.load_dict(f"models:/{record.model}/{record.number}/{_SETTINGS}")
    except (mlflow.MlflowException, OSError):
        return {}
    return settings


def measured_models() -> list[Entry]:
    """Read every registered version ``cxr-*``, then every cell of an experiment that has test metrics.

    A cell is a nested run of an MLflow experiment ``cxr-*``. One that registered a version is listed as that version.
    """
    ids = [experiment.experiment_id for experiment in mlflow.search_experiments(filter_string=_OF_THIS_PROJECT)]
    # Without ids MLflow searches the active experiment.
    evaluated = mlflow.search_runs(ids, _EVALUATED, output_format="list") if ids else []
    runs = {run.info.run_id: run for run in evaluated}
    versions = _registered_versions(_OF_THIS_PROJECT, runs)
    registered = {version.run_id for version in versions}
    cells = [run for key, run in runs.items() if _PARENT in run.data.tags and key not in registered]
    parents = {run.data.tags[_PARENT] for run in cells}
    found = {parent: run for parent in parents if (run := runs.get(parent) or find_run(parent))}
    names = {parent: run.data.tags.get(PIPELINE, run.info.run_name) for parent, run in found.items()}
    return [*versions, *(_cell(run, names.get(run.data.tags[_PARENT])) for run in cells)]


def _registered_versions(models: str, runs: Mapping[str, Any]) -> list[VersionRecord]:
    """Read the versions of registered models, filtered by, for example, ``name LIKE 'cxr-%'``.

    ``runs``, by id, are not requested again.
    """
    # search_model_versions returns versions without their aliases.
    registered = mlflow.search_registered_models(filter_string=models)
    aliases = {model.name: sorted(model.aliases.items()) for model in registered}
    records = []
    for version in mlflow.search_model_versions(filter_string=models):
        if version.status != "READY":
            continue
        name, number = version.name, int(version.version)
        record = VersionRecord(
            kind="version",
            model=name,
            number=number,
            name=f"{name} {number}",
            aliases=tuple(alias for alias, own in aliases.get(name, ()) if int(own) == number),
            date=_to_datetime(version.creation_timestamp),
            url=version_url(mlflow.get_tracking_uri(), name, number),
            tags=dict(version.tags),
            **_provenance(version.tags),
            **_results(runs.get(version.run_id or "") or find_run(version.run_id)),
        )
        records.append(record)
    return records


def _cell(run: Any, parent: str | None) -> Entry:
    return Entry(
        kind="cell",
        name=": ".join(filter(None, (parent, run.data.tags.get(CELL, run.info.run_name)))),
        date=_to_datetime(run.info.end_time or run.info.start_time),
        unfinished=None if run.info.status == "FINISHED" else run.info.status.lower(),
        **_provenance(run.data.tags),
        **_results(run),
    )


def _provenance(tags: Mapping[str, str]) -> dict[str, Any]:
    return {name: tags.get(name) for name in ("task", "images", "test_digest", "data_digest")}


def _results(run: Any) -> dict[str, Any]:
    """Metrics on the test images, parameters and address of a run; empty if it no longer exists."""
    if run is None:
        return {"metrics": {}, "parameters": {}, "experiment_id": None, "run_id": None}
    ids = {"experiment_id": run.info.experiment_id, "run_id": run.info.run_id}
    groups = ("test/", "test_details/")
    metrics = {n.partition("/")[2]: value for n, value in run.data.metrics.items() if n.startswith(groups)}
    url = run_url(mlflow.get_tracking_uri(), **ids)
    return {"metrics": metrics, "parameters": dict(run.data.params), "run_url": url, **ids}


def _to_datetime(milliseconds: int) -> datetime:
    """Convert MLflow's milliseconds since 1970 to a UTC datetime."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
