"""Reference profiles for drift detection, stored with the run of each version."""

import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import mlflow

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.tracking import runs
from cxr_pipeline.tracking.queries import has_artifact
from cxr_pipeline.tracking.versions import ModelVersion

if TYPE_CHECKING:
    from cxr_pipeline.deployment.drift.reference_profile import ReferenceProfile

PROFILE = "drift_profile.npz"

_log = logging.getLogger(__name__)


def log_profile(profile: "ReferenceProfile") -> None:
    """Log the profile of the version that the active run registers; do nothing without an active run."""
    with tempfile.TemporaryDirectory() as folder:
        profile.save(Path(folder, PROFILE))
        runs.log_artifact(Path(folder, PROFILE))


def stored_profile(version: ModelVersion) -> "ReferenceProfile | None":
    """Return the profile of a version, or None where its run stored none.

    Raises:
        UserError: The profile was made by another version of this package.
    """
    from cxr_pipeline.deployment.drift.reference_profile import ReferenceProfile

    client = mlflow.MlflowClient()
    if not has_artifact(client, version.run_id, PROFILE):
        return None
    with tempfile.TemporaryDirectory() as folder:
        return ReferenceProfile.load(Path(client.download_artifacts(version.run_id, PROFILE, folder)))


def usable_profile(version: ModelVersion) -> "ReferenceProfile | None":
    """Return the profile of a version, or log why there is none that can be used and return None."""
    try:
        profile = stored_profile(version)
    except UserError as error:
        _log.warning("%s", error)
        return None
    if profile is None:
        _log.warning("The run of %s stored no reference profile: images are not compared with it.", version.uri)
    return profile
