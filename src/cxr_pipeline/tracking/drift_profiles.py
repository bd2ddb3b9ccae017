"""The profile for drift that the run of a version has left beside it."""

import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import mlflow

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.tracking import sending
from cxr_pipeline.tracking.queries import has_artifact
from cxr_pipeline.tracking.versions import ModelVersion

if TYPE_CHECKING:
    from cxr_pipeline.deployment.drift.profile import Profile

PROFILE = "drift_profile.npz"

_log = logging.getLogger(__name__)


def log_profile(profile: "Profile") -> None:
    """Leave a profile beside the version that the active run registers; without a run nothing is kept."""
    with tempfile.TemporaryDirectory() as folder:
        profile.save(Path(folder, PROFILE))
        sending.log_artifact(Path(folder, PROFILE))


def stored_profile(version: ModelVersion) -> "Profile | None":
    """Read the profile of the images that a version was trained with; None where its run has left none.

    Raises:
        UserError: it was made by another version of this package.
    """
    from cxr_pipeline.deployment.drift.profile import Profile

    client = mlflow.MlflowClient()
    if not has_artifact(client, version.run_id, PROFILE):
        return None
    with tempfile.TemporaryDirectory() as folder:
        return Profile.load(Path(client.download_artifacts(version.run_id, PROFILE, folder)))


def usable_profile(version: ModelVersion) -> "Profile | None":
    """Read the profile of a version for a run that can do without; where there is none to use, the log says why."""
    try:
        profile = stored_profile(version)
    except UserError as error:
        _log.warning("%s", error)
        return None
    if profile is None:
        _log.warning("The run of %s has left no profile of its images: no image is compared with them.", version.uri)
    return profile
