"""Every model of this project that MLflow knows the test metrics of."""

from collections.abc import Iterator, Mapping
from typing import Any

import mlflow

from cxr_pipeline.experiments.leaderboard import Entry
from cxr_pipeline.tracking.queries import aliases_by_version, metrics_on_test, moment, pages, run_if_there
from cxr_pipeline.tracking.server import run_url, version_url

_OURS = "name LIKE 'cxr-%'"
_MEASURED = "metrics.`test/n_images` > 0"
_PARENT = "mlflow.parentRunId"


def measured_models() -> list[Entry]:
    """Read every registered version ``cxr-*``, and every cell of an experiment that was measured on test images.

    A cell is a nested run of an experiment ``cxr-*``. One that registered a version is given once, as that version.

    Returns:
        versions and then cells, as they are found.
    """
    client = mlflow.MlflowClient()
    experiments = [found.experiment_id for found in pages(client.search_experiments, filter_string=_OURS)]
    found = pages(client.search_runs, experiment_ids=experiments, filter_string=_MEASURED) if experiments else ()
    runs = {run.info.run_id: run for run in found}
    versions = list(_versions(client, runs))
    registered = {version.run_id for version in versions}
    cells = {key: run for key, run in runs.items() if _PARENT in run.data.tags and key not in registered}
    parents = {run.data.tags[_PARENT] for run in cells.values()}
    names = {parent: run.info.run_name for parent in sorted(parents) if (run := _run(client, runs, parent))}
    return [*versions, *(_cell(run, names.get(run.data.tags[_PARENT])) for run in cells.values())]


def _versions(client: mlflow.MlflowClient, runs: Mapping[str, Any]) -> Iterator[Entry]:
    aliases = aliases_by_version(client, _OURS)
    for version in pages(client.search_model_versions, filter_string=_OURS):
        if version.status != "READY":
            continue
        run = _run(client, runs, version.run_id)
        yield Entry(
            kind="version",
            name=f"{version.name} {version.version}",
            aliases=aliases.get((version.name, int(version.version)), ()),
            date=moment(version.creation_timestamp),
            url=version_url(mlflow.get_tracking_uri(), version.name, int(version.version)),
            **_provenance(version.tags),
            **_measured(run),
        )


def _cell(run: Any, parent: str | None) -> Entry:
    return Entry(
        kind="cell",
        name=": ".join(filter(None, (parent, run.info.run_name))),
        date=moment(run.info.end_time or run.info.start_time),
        unfinished=None if run.info.status == "FINISHED" else run.info.status.lower(),
        **_provenance(run.data.tags),
        **_measured(run),
    )


def _provenance(tags: Mapping[str, str]) -> dict[str, Any]:
    return {name: tags.get(name) for name in ("task", "images", "test_digest", "data_digest")}


def _measured(run: Any) -> dict[str, Any]:
    """What the run of a model says of it; nothing where the run is gone."""
    if run is None:
        return {"metrics": {}, "parameters": {}, "experiment_id": None, "run_id": None, "run_url": None}
    place = {"experiment_id": run.info.experiment_id, "run_id": run.info.run_id}
    url = run_url(mlflow.get_tracking_uri(), **place)
    return {"metrics": metrics_on_test(run), "parameters": dict(run.data.params), "run_url": url, **place}


def _run(client: mlflow.MlflowClient, known: Mapping[str, Any], run_id: str | None) -> Any:
    return known[run_id] if run_id and run_id in known else run_if_there(client, run_id)
