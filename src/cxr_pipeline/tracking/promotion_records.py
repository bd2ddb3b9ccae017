"""What MLflow keeps of a retraining: the images of each version, what was decided of it, and runs without work."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import mlflow
import pandas as pd

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.deployment.classifier import ImageClassifier
from cxr_pipeline.tracking import runs
from cxr_pipeline.tracking.aliases import ROLLED_BACK
from cxr_pipeline.tracking.queries import has_artifact
from cxr_pipeline.tracking.versions import load_classifier

IMAGES = "lineage/images.parquet"
# Tags of a version: what it was decided by, and what it was trained by. A version has the first when all is done.
DECISION, REASONS, DECIDED_IN, TRAINED_BY = "decision", "decision_reasons", "decision_run", "retraining"
PROMOTED, KEPT, STOPPED = "promoted", "not promoted", "stopped"
# Tag of a version and of a run: the verdict on the images that were new to the champion.
DRIFT = "drift"
UNKNOWN = "unknown"
# Tag of a version whose new images were too few to tell: the number of the version that they were compared with.
SINCE = "drift_since"
# Tag of a run that ended because there was nothing to do.
SKIPPED = "skipped"
_LONGEST_TAG = 5000


def log_images(images: pd.DataFrame) -> None:
    """Log the images of the version that the active run is about to register.

    Args:
        images: from ``retraining.images_used``.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, Path(IMAGES).name)
        images.to_parquet(file, index=False)
        runs.log_artifact(file, str(Path(IMAGES).parent))


def images_of_champion(name: str, version: int) -> pd.DataFrame:
    """Read the images that the version in use was made with, as ``log_images`` took them.

    Args:
        name: of the registered model.
        version: its number.

    Raises:
        UserError: they are not on record.
    """
    found = images_of_version(name, version)
    if found is None:
        raise UserError(
            f"It is not on record which images the champion, {name} {version}, was made with, so that no challenger "
            "can be compared with it fairly. Give the alias champion to a version whose run has the artifact "
            f"{IMAGES}, or take it from this one: the next version is then promoted on the floors alone."
        )
    return found


def images_of_version(name: str, version: int) -> pd.DataFrame | None:
    """Read the images that a version was made with; None where they are not on record."""
    client = mlflow.MlflowClient()
    run_id = client.get_model_version(name, str(version)).run_id
    if not has_artifact(client, run_id, IMAGES):
        return None
    with tempfile.TemporaryDirectory() as place:
        return pd.read_parquet(client.download_artifacts(run_id, IMAGES, place))


def load_champion(name: str, version: int, *, kind: str, classes: Sequence[str]) -> ImageClassifier:
    """Load the version in use, to compare another one with it.

    Args:
        name: of the registered model.
        version: its number.
        kind: of the task.
        classes: of the task.

    Raises:
        UserError: it decides between other classes than the task.
    """
    champion = load_classifier(f"models:/{name}/{version}")
    rule = champion.decision_rule
    if (rule.kind, list(rule.classes)) != (kind, list(classes)):
        raise UserError(
            f"The champion, {name} {version}, decides between {', '.join(rule.classes)} ({rule.kind}); expected "
            f"{', '.join(classes)} ({kind}), as the task has it by now: they cannot be compared. Take the alias "
            "champion from it; the next version is then promoted on the floors alone."
        )
    return champion


def decided_version(name: str, trained_by: str) -> tuple[int, str] | None:
    """Find the version of a retraining that was decided on.

    Args:
        name: of the registered model.
        trained_by: what names the retraining, as ``note_reasons`` took it.

    Returns:
        the number of the version, and what became of it (``promoted``, ``not promoted`` or ``rolled back``); None
        where there is none.
    """
    found = mlflow.MlflowClient().search_model_versions(f"name='{name}'", order_by=["version_number DESC"])
    for version in found:
        if version.tags.get(TRAINED_BY) == trained_by and {DECISION, ROLLED_BACK} & set(version.tags):
            return int(version.version), "rolled back" if ROLLED_BACK in version.tags else version.tags[DECISION]
    return None


def note_reasons(name: str, version: int, reasons: Sequence[str], *, trained_by: str) -> None:
    """Write on a version, before an alias is moved, why that is done; it is not decided then.

    Args:
        name: of the registered model.
        version: its number.
        reasons: sentences.
        trained_by: what names the retraining.
    """
    client, run = mlflow.MlflowClient(), mlflow.active_run()
    client.delete_model_version_tag(name, str(version), DECISION)
    tags = {TRAINED_BY: trained_by, REASONS: " ".join(reasons)[:_LONGEST_TAG]}
    tags |= {DECIDED_IN: run.info.run_id} if run else {}
    for key, value in tags.items():
        client.set_model_version_tag(name, str(version), key, value)
    runs.set_tags({"version": f"{name} {version}"})


def note_decision(name: str, version: int, *, promoted: bool) -> None:
    """Write on a version what was decided of it; the aliases must have been moved before.

    Args:
        name: of the registered model.
        version: its number.
        promoted: whether it became the champion.
    """
    decision = PROMOTED if promoted else KEPT
    mlflow.MlflowClient().set_model_version_tag(name, str(version), DECISION, decision)
    runs.set_tags({DECISION: decision})


def finish_decision(name: str, champion: int) -> None:
    """Write on the champion that it was promoted, where a run was cut short after it had moved the alias."""
    tags = mlflow.MlflowClient().get_model_version(name, str(champion)).tags
    if TRAINED_BY in tags and DECISION not in tags:
        mlflow.MlflowClient().set_model_version_tag(name, str(champion), DECISION, PROMOTED)


def note_stop(reasons: Sequence[str]) -> None:
    """Write on the active run that a retraining stopped, and why; nothing without one."""
    runs.set_tags({DECISION: STOPPED, REASONS: " ".join(reasons)[:_LONGEST_TAG]})


def note_drift(name: str, version: int, verdict: str, *, since: int) -> None:
    """Write on a version how the images that were new in its training compare with those of an earlier one.

    Args:
        name: of the registered model.
        version: its number.
        verdict: of the comparison; after ``unknown`` the next images are compared together with these.
        since: number of the earlier version.
    """
    client = mlflow.MlflowClient()
    client.set_model_version_tag(name, str(version), DRIFT, verdict)
    if verdict == UNKNOWN:
        client.set_model_version_tag(name, str(version), SINCE, str(since))
    else:
        client.delete_model_version_tag(name, str(version), SINCE)


def compared_since(name: str, champion: int) -> int:
    """Tell the version that new images are to be compared with.

    Returns:
        the champion; or an earlier version, where the images that came after that were too few to tell until now.
    """
    return int(mlflow.MlflowClient().get_model_version(name, str(champion)).tags.get(SINCE, champion))


def images_compared_after(name: str, version: int) -> pd.DataFrame | None:
    """Read the images of the newest version after another one whose new images were compared with success.

    All that it has was compared by then, whether it was promoted or not: compared again with every part that comes,
    good images would dilute bad ones.

    Returns:
        as `log_images` took them; None where there is no such version.
    """
    for found in mlflow.MlflowClient().search_model_versions(f"name='{name}'", order_by=["version_number DESC"]):
        if int(found.version) <= version:
            break
        if found.tags.get(DRIFT, UNKNOWN) != UNKNOWN:
            return images_of_version(name, int(found.version))
    return None


def log_texts(texts: Mapping[str, str], folder: str) -> None:
    """Log texts by their file name to a folder of the active run; nothing without one."""
    with tempfile.TemporaryDirectory() as place:
        for name, text in texts.items():
            Path(place, name).write_text(text, encoding="utf-8")
            runs.log_artifact(Path(place, name), folder)


def end_skipped(why: str) -> None:
    """End the active run, which did nothing, and say why; nothing without one."""
    runs.set_tags({SKIPPED: why})
    runs.end_active_run("FINISHED")
