"""Artifacts of the runs that register versions: images, reference profile, records of decisions.

Functions that log do nothing without an active run.
"""

import logging
import shutil
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import pandas as pd

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.common.files import explain_damage
from cxr_pipeline.data.sources.pseudonyms import VARIABLE, key_fingerprint
from cxr_pipeline.deployment.data_changes import PATIENT
from cxr_pipeline.tracking import runs
from cxr_pipeline.tracking.versions import ModelVersion

if TYPE_CHECKING:
    from cxr_pipeline.deployment.drift.reference_profile import ReferenceProfile

# Tags of a version: the size of its list of images, and the fingerprint of the key that hashed its patients.
N_IMAGES, N_PATIENTS, PATIENT_KEY = "n_images", "n_patients", "patient_key"
IMAGES, PROFILE = "lineage/images.parquet", "drift_profile.npz"

_log = logging.getLogger(__name__)


def log_images(images: pd.DataFrame, *, name: str, key_file: Path) -> dict[str, str]:
    """Log the images (from `with_patients`) of the version that the active run is about to register; return its tags.

    A warning is logged if the patients of earlier versions were hashed with another key than the one in ``key_file``.
    """
    _write(IMAGES, partial(images.to_parquet, index=False))
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


def log_profile(profile: "ReferenceProfile") -> None:
    """Log the reference profile of the version that the active run registers."""
    _write(PROFILE, profile.save)


def log_texts(texts: Mapping[str, str], folder: str = "") -> None:
    """Log texts, by file name, to a folder of the active run's artifacts."""
    for name, text in texts.items():
        _write(f"{folder}/{name}", partial(Path.write_text, data=text, encoding="utf-8"))


def images_of_run(run_id: str | None) -> pd.DataFrame | None:
    """Return the images of the version that a run registered; None if the run does not exist or logged none."""
    images: pd.DataFrame | None = _read(run_id, IMAGES, pd.read_parquet)
    return images


def copy_images_of_run(run_id: str | None, file: Path) -> bool:
    """Copy the Parquet file of `images_of_run` to ``file``; return False if the run does not exist or logged none."""
    return _read(run_id, IMAGES, partial(shutil.copyfile, dst=file)) is not None


def images_of_champion(name: str, version: int) -> pd.DataFrame:
    """Return the images of a version that a challenger is compared with; raise `UserError` if its run logged none."""
    images = images_of_run(mlflow.MlflowClient().get_model_version(name, str(version)).run_id)
    if images is None:
        raise UserError(
            f"The run of {name} {version} has no list of its images (artifact {IMAGES}), so that no challenger can be "
            "compared with it fairly. Give the alias champion to a version whose run has this artifact; or remove the "
            "alias from this one, so that the next version is promoted on the floors alone."
        )
    return images


def stored_profile(version: ModelVersion) -> "ReferenceProfile | None":
    """Return the reference profile of a version, or None if its run stored none."""
    from cxr_pipeline.deployment.drift.reference_profile import ReferenceProfile

    profile: ReferenceProfile | None = _read(version.run_id, PROFILE, ReferenceProfile.load)
    return profile


def usable_profile(version: ModelVersion) -> "ReferenceProfile | None":
    """Return the reference profile of a version; if it is missing or unusable, log the reason and return None."""
    try:
        profile = stored_profile(version)
    except UserError as error:
        _log.warning("%s", error)
        return None
    if profile is None:
        _log.warning("The run of %s stored no reference profile. Images are not compared with it.", version.uri)
    return profile


def _write(artifact: str, write: Callable[[Path], Any]) -> None:
    folder, _, name = artifact.rpartition("/")
    with tempfile.TemporaryDirectory() as temporary:
        write(Path(temporary, name))
        runs.log_artifact(Path(temporary, name), folder or None)


def _read(run_id: str | None, artifact: str, read: Callable[[Path], Any]) -> Any:
    """Read an artifact with ``read``; return None if the run or the artifact does not exist."""
    client = mlflow.MlflowClient()
    if run_id is None or runs.find_run(run_id) is None:
        return None
    folder = artifact.rpartition("/")[0]
    if artifact not in {entry.path for entry in client.list_artifacts(run_id, folder or None)}:
        return None
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(client.download_artifacts(run_id, artifact, temporary))
        with explain_damage(f"The artifact {artifact} of run {run_id}", "Restore a copy, or train the model again."):
            return read(path)
