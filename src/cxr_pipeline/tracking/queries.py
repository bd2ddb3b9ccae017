"""Reading MLflow: everything that a search finds, aliases, a run that may be gone, its test metrics, moments."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import mlflow


def pages(search: Callable[..., Any], **wanted: Any) -> Iterable[Any]:
    """Everything that a search finds, page by page."""
    token = None
    while True:
        page = search(**wanted, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def run_if_there(client: mlflow.MlflowClient, run_id: str | None) -> Any:
    """A run by its id; None where it is gone."""
    if not run_id:
        return None
    try:
        return client.get_run(run_id)
    except mlflow.MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def has_artifact(client: mlflow.MlflowClient, run_id: str | None, path: str) -> bool:
    """Whether a run is there and has left a file at ``path`` among its artifacts."""
    if run_id is None or run_if_there(client, run_id) is None:
        return False
    folder = path.rpartition("/")[0]
    return path in {artifact.path for artifact in client.list_artifacts(run_id, folder or None)}


def aliases_by_version(client: mlflow.MlflowClient, wanted: str) -> dict[tuple[str, int], tuple[str, ...]]:
    """The aliases of every version that has any, by name of the model and number of the version.

    Args:
        client: of MLflow.
        wanted: filter of registered models, such as ``name LIKE 'cxr-%'``.
    """
    found: dict[tuple[str, int], tuple[str, ...]] = {}
    for model in pages(client.search_registered_models, filter_string=wanted):
        for alias, number in sorted(model.aliases.items()):
            version = (model.name, int(number))
            found[version] = (*found.get(version, ()), alias)
    return found


def metrics_on_test(run: Any) -> dict[str, float]:
    """What a run measured on the test images, without ``test/``."""
    metrics = run.data.metrics.items()
    return {name.removeprefix("test/"): value for name, value in metrics if name.startswith("test/")}


def moment(milliseconds: int) -> datetime:
    """The moment that MLflow gives as milliseconds since 1970."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
