"""Queries to MLflow that several modules share."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import mlflow


def pages(search: Callable[..., Any], **arguments: Any) -> Iterable[Any]:
    """Yield every result of a search method of the MLflow client, page by page."""
    token = None
    while True:
        page = search(**arguments, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


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


def has_artifact(client: mlflow.MlflowClient, run_id: str | None, path: str) -> bool:
    """Whether a run exists and has an artifact at ``path``."""
    if run_id is None or find_run(client, run_id) is None:
        return False
    folder = path.rpartition("/")[0]
    return path in {artifact.path for artifact in client.list_artifacts(run_id, folder or None)}


def aliases_by_version(client: mlflow.MlflowClient, models: str) -> dict[tuple[str, int], tuple[str, ...]]:
    """Return the aliases of every version that has any, by name of the model and number of the version.

    Args:
        client: MLflow client.
        models: Filter of registered models, such as ``name LIKE 'cxr-%'``.
    """
    # search_model_versions returns versions without their aliases.
    aliases: dict[tuple[str, int], tuple[str, ...]] = {}
    for model in pages(client.search_registered_models, filter_string=models):
        for alias, number in sorted(model.aliases.items()):
            version = (model.name, int(number))
            aliases[version] = (*aliases.get(version, ()), alias)
    return aliases


def read_test_metrics(run: Any) -> dict[str, float]:
    """Return a run's metrics on the test images, by name without ``test/``."""
    metrics = run.data.metrics.items()
    return {name.removeprefix("test/"): value for name, value in metrics if name.startswith("test/")}


def to_datetime(milliseconds: int) -> datetime:
    """Convert MLflow's milliseconds since 1970 to a UTC datetime."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
