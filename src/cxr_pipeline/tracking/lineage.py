"""Where a version comes from, as MLflow has it: its run, its images, its recipe and rule, its model card."""

import json
import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd

from cxr_pipeline.data.sources.pseudonyms import VARIABLE, key_fingerprint
from cxr_pipeline.deployment.lineage import count_patients
from cxr_pipeline.tracking import promotion_records, runs
from cxr_pipeline.tracking.queries import aliases_by_version, find_run, pages, read_test_metrics, to_datetime
from cxr_pipeline.tracking.server import connect

_log = logging.getLogger(__name__)

# Tags of a version: what its list of images comes to, and which key its patients were hashed with.
N_IMAGES, N_PATIENTS, PATIENT_KEY = "n_images", "n_patients", "patient_key"
CARD = "model_card.md"
_SETTINGS = "artifacts/classifier/classifier.json"


@dataclass(frozen=True)
class VersionRecord:
    """A version, and what its run says of it.

    Args:
        name: of the registered model.
        number: of the version.
        aliases: that it has today.
        date: when it was registered.
        run_id: of the run that registered it; None where that is gone.
        tags: of the version.
        metrics: of the run, without ``test/``.
        parameters: of the run, by dotted name.
    """

    name: str
    number: int
    aliases: tuple[str, ...]
    date: datetime
    run_id: str | None
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    parameters: Mapping[str, str]


def versions_of(name: str, uri: str) -> list[VersionRecord]:
    """Read every version of a registered model, and keep to that MLflow from now on.

    Args:
        name: of the registered model.
        uri: where MLflow is, as for ``connect``.

    Returns:
        the newest first; none where there is no such model.

    Raises:
        UserError: MLflow cannot be used.
    """
    connect(uri)
    client = mlflow.MlflowClient()
    aliases = aliases_by_version(client, f"name='{name}'")
    found = [
        _record(client, version, aliases)
        for version in pages(client.search_model_versions, filter_string=f"name='{name}'")
    ]
    return sorted(found, key=lambda record: record.number, reverse=True)


def _record(
    client: mlflow.MlflowClient, version: Any, aliases: Mapping[tuple[str, int], tuple[str, ...]]
) -> VersionRecord:
    run, name, number = find_run(client, version.run_id), version.name, int(version.version)
    return VersionRecord(
        name=name,
        number=number,
        aliases=aliases.get((name, number), ()),
        date=to_datetime(version.creation_timestamp),
        run_id=run.info.run_id if run else None,
        tags=dict(version.tags),
        metrics=read_test_metrics(run) if run else {},
        parameters=dict(run.data.params) if run else {},
    )


def settings_of(record: VersionRecord) -> dict[str, Any]:
    """Read the ``recipe`` and ``decision_rule`` that a version carries beside its weights; empty where it is gone."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            uri = f"models:/{record.name}/{record.number}/{_SETTINGS}"
            file = mlflow.artifacts.download_artifacts(uri, dst_path=folder)
            found: dict[str, Any] = json.loads(Path(file).read_text("utf-8"))
        except (mlflow.MlflowException, OSError):
            return {}
    return found


def log_images(images: pd.DataFrame, *, name: str, key_file: Path) -> dict[str, str]:
    """Log the images of the version that the active run is about to register; warn if patients are hashed anew.

    Args:
        images: from ``lineage.with_patients``.
        name: of the registered model.
        key_file: where the key is kept that their patients were hashed with.

    Returns:
        what sums them up, as tags of the version.
    """
    promotion_records.log_images(images)
    n_patients = count_patients(images)
    tags = {N_IMAGES: str(len(images)), N_PATIENTS: str(n_patients)}
    key = key_fingerprint(key_file, make=False)
    if not n_patients or key is None:
        return tags
    if others := _hashed_otherwise(name, key):
        _log.warning(
            "The key that patients are hashed with (%s, or %s) is another one than that of %s %s: which of these "
            "versions have seen a patient can only be told with theirs. Put it back if that was not meant.",
            key_file, VARIABLE, name, ", ".join(map(str, others)),
        )  # fmt: skip
    return {**tags, PATIENT_KEY: key}


def _hashed_otherwise(name: str, key: str) -> list[int]:
    """The versions whose patients were hashed with another key."""
    found = pages(mlflow.MlflowClient().search_model_versions, filter_string=f"name='{name}'")
    return sorted(int(version.version) for version in found if version.tags.get(PATIENT_KEY, key) != key)


def log_card(card: str) -> None:
    """Leave the model card beside the version that the active run registers; nothing without a run."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, CARD)
        file.write_text(card, "utf-8")
        runs.log_artifact(file)
