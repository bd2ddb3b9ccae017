"""The registered versions and the models with test metrics in MLflow."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import mlflow

from cxr_pipeline.experiments.leaderboard import Entry
from cxr_pipeline.tracking.runs import find_run
from cxr_pipeline.tracking.server import connect, run_url, version_url
from cxr_pipeline.tracking.versions import no_version

_OF_THIS_PROJECT = "name LIKE 'cxr-%'"
_EVALUATED = "metrics.`test/n_images` > 0"
_PARENT = "mlflow.parentRunId"
_SETTINGS = "artifacts/classifier/classifier.json"


def measured_models() -> list[Entry]:
    """Read every registered version ``cxr-*``, then every cell of an experiment that has test metrics.

    A cell is a nested run of an MLflow experiment ``cxr-*``. One that registered a version is listed as that version.
    """
    ids = [experiment.experiment_id for experiment in mlflow.search_experiments(filter_string=_OF_THIS_PROJECT)]
    # Without ids MLflow searches the active experiment.
    evaluated = mlflow.search_runs(ids, _EVALUATED, output_format="list") if ids else []
    runs = {run.info.run_id: run for run in evaluated}
    versions = [
        _version(*found) for found in _registered_versions(_OF_THIS_PROJECT, runs) if found[0].status == "READY"
    ]
    registered = {version.run_id for version in versions}
    cells = [run for key, run in runs.items() if _PARENT in run.data.tags and key not in registered]
    parents = {run.data.tags[_PARENT] for run in cells}
    names = {parent: run.info.run_name for parent in parents if (run := runs.get(parent) or find_run(parent))}
    return [*versions, *(_cell(run, names.get(run.data.tags[_PARENT])) for run in cells)]


def _version(version: Any, aliases: tuple[str, ...], run: Any) -> Entry:
    number = int(version.version)
    return Entry(
        kind="version",
        name=f"{version.name} {number}",
        aliases=aliases,
        date=_to_datetime(version.creation_timestamp),
        url=version_url(mlflow.get_tracking_uri(), version.name, number),
        **_provenance(version.tags),
        **_results(run),
    )


def _cell(run: Any, parent: str | None) -> Entry:
    return Entry(
        kind="cell",
        name=": ".join(filter(None, (parent, run.info.run_name))),
        date=_to_datetime(run.info.end_time or run.info.start_time),
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
    return {"metrics": _test_metrics(run), "parameters": dict(run.data.params), "run_url": url, **ids}


@dataclass(frozen=True)
class VersionRecord:
    """A model version, and its run: None, without metrics on the test images or parameters, if it was deleted."""

    name: str
    number: int
    aliases: tuple[str, ...]
    date: datetime
    run_id: str | None
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    parameters: Mapping[str, str]


def versions_of(name: str, uri: str, *, artifacts: str | None = None) -> list[VersionRecord]:
    """Read every version of a registered model, newest first, from the MLflow at ``uri``; none is a `UserError`."""
    connect(uri, artifacts=artifacts)
    records = [
        VersionRecord(
            name=version.name,
            number=int(version.version),
            aliases=aliases,
            date=_to_datetime(version.creation_timestamp),
            run_id=run.info.run_id if run else None,
            tags=dict(version.tags),
            metrics=_test_metrics(run) if run else {},
            parameters=dict(run.data.params) if run else {},
        )
        for version, aliases, run in _registered_versions(f"name='{name}'", {})
    ]
    if not records:
        raise no_version(name)
    return sorted(records, key=lambda record: record.number, reverse=True)


def settings_of(record: VersionRecord) -> dict[str, Any]:
    """Read the ``recipe`` and ``decision_rule`` stored with the weights of a version; empty if they are missing."""
    try:
        settings: dict[str, Any] = mlflow.artifacts.load_dict(f"models:/{record.name}/{record.number}/{_SETTINGS}")
    except (mlflow.MlflowException, OSError):
        return {}
    return settings


def _registered_versions(models: str, runs: Mapping[str, Any]) -> Iterator[tuple[Any, tuple[str, ...], Any]]:
    """Yield registered versions, each with its aliases and its run; None if the run no longer exists.

    ``models`` filters the registered models, such as ``name LIKE 'cxr-%'``; ``runs``, by id, are not requested again.
    """
    # search_model_versions returns versions without their aliases.
    registered = mlflow.search_registered_models(filter_string=models)
    aliases = {model.name: sorted(model.aliases.items()) for model in registered}
    for version in mlflow.search_model_versions(filter_string=models):
        own = tuple(alias for alias, number in aliases.get(version.name, ()) if int(number) == int(version.version))
        yield version, own, runs.get(version.run_id or "") or find_run(version.run_id)


def _test_metrics(run: Any) -> dict[str, float]:
    """Return a run's metrics on the test images, by name without ``test/``."""
    metrics = run.data.metrics.items()
    return {name.removeprefix("test/"): value for name, value in metrics if name.startswith("test/")}


def _to_datetime(milliseconds: int) -> datetime:
    """Convert MLflow's milliseconds since 1970 to a UTC datetime."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
