"""The records of every version of a model in MLflow."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import mlflow

from cxr_pipeline.tracking.model_index import read_test_metrics, registered_versions, to_datetime
from cxr_pipeline.tracking.server import connect
from cxr_pipeline.tracking.versions import no_version

_SETTINGS = "artifacts/classifier/classifier.json"


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


def versions_of(name: str, uri: str) -> list[VersionRecord]:
    """Read every version of a registered model, newest first, from the MLflow at ``uri``.

    Raises:
        UserError: There is none.
        Unavailable: MLflow does not answer.
    """
    connect(uri)
    records = [
        VersionRecord(
            name=version.name,
            number=int(version.version),
            aliases=aliases,
            date=to_datetime(version.creation_timestamp),
            run_id=run.info.run_id if run else None,
            tags=dict(version.tags),
            metrics=read_test_metrics(run) if run else {},
            parameters=dict(run.data.params) if run else {},
        )
        for version, aliases, run in registered_versions(f"name='{name}'", {})
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
