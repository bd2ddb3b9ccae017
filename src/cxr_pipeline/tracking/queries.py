"""Queries to MLflow that several modules share."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import mlflow


def find_run(client: mlflow.MlflowClient, run_id: str | None) -> Any:
    """Return a run by its id; None if it no longer exists."""
    if not run_id:
        return None
    try:
        return client.get_run(run_id)
    except mlflow.MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def registered_versions(models: str, runs: Mapping[str, Any]) -> Iterator[tuple[Any, tuple[str, ...], Any]]:
    """Yield registered versions, each with its aliases and its run; None if the run no longer exists.

    ``models`` filters the registered models, such as ``name LIKE 'cxr-%'``; ``runs``, by id, are not requested again.
    """
    client = mlflow.MlflowClient()
    # search_model_versions returns versions without their aliases.
    registered = mlflow.search_registered_models(filter_string=models)
    aliases = {model.name: sorted(model.aliases.items()) for model in registered}
    for version in mlflow.search_model_versions(filter_string=models):
        own = tuple(alias for alias, number in aliases.get(version.name, ()) if int(number) == int(version.version))
        yield version, own, runs.get(version.run_id or "") or find_run(client, version.run_id)


def read_test_metrics(run: Any) -> dict[str, float]:
    """Return a run's metrics on the test images, by name without ``test/``."""
    metrics = run.data.metrics.items()
    return {name.removeprefix("test/"): value for name, value in metrics if name.startswith("test/")}


def to_datetime(milliseconds: int) -> datetime:
    """Convert MLflow's milliseconds since 1970 to a UTC datetime."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
