"""The lineage of a version in MLflow: its run, images, recipe, decision rule and model card."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd

from cxr_pipeline.data.sources.pseudonyms import VARIABLE, key_fingerprint
from cxr_pipeline.deployment.lineage import PATIENT
from cxr_pipeline.tracking import artifacts
from cxr_pipeline.tracking.queries import read_test_metrics, registered_versions, to_datetime
from cxr_pipeline.tracking.server import connect
from cxr_pipeline.tracking.versions import no_version

_log = logging.getLogger(__name__)

# Tags of a version: the size of its list of images, and the fingerprint of the key that hashed its patients.
N_IMAGES, N_PATIENTS, PATIENT_KEY = "n_images", "n_patients", "patient_key"
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


def log_images(images: pd.DataFrame, *, name: str, key_file: Path) -> dict[str, str]:
    """Log the images of the version that the active run is about to register, and return its tags.

    The images are from ``deployment.lineage.with_patients``. A warning is logged if the patients of earlier versions
    were hashed with another key than the one in ``key_file``.
    """
    artifacts.log_images(images)
    n_patients = images[PATIENT].nunique()
    tags = {N_IMAGES: str(len(images)), N_PATIENTS: str(n_patients)}
    key = key_fingerprint(key_file, make=False)
    if not n_patients or key is None:
        return tags
    versions = mlflow.search_model_versions(filter_string=f"name='{name}'")
    others = sorted(int(version.version) for version in versions if version.tags.get(PATIENT_KEY, key) != key)
    if others:
        _log.warning(
            "The key that hashes patients (%s, or %s) differs from that of %s %s: only their key can tell whether they "
            "used a patient. Restore it if it was not replaced on purpose.",
            key_file, VARIABLE, name, ", ".join(map(str, others)),
        )  # fmt: skip
    return {**tags, PATIENT_KEY: key}


def hashed_with(name: str, version: int, key_file: Path) -> bool:
    """Return whether the patients of a version were hashed with the current key."""
    tags = mlflow.MlflowClient().get_model_version(name, str(version)).tags
    return PATIENT_KEY in tags and tags[PATIENT_KEY] == key_fingerprint(key_file, make=False)
