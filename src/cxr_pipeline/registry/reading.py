"""Reading MLflow: everything that a search finds, a run that may be gone, moments."""

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


def moment(milliseconds: int) -> datetime:
    """The moment that MLflow gives as milliseconds since 1970."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
