"""Promotion decisions in MLflow: tags of the version and of the run."""

from collections.abc import Sequence

import mlflow

from cxr_pipeline.deployment.classifier import ImageClassifier
from cxr_pipeline.tracking import runs, webhook
from cxr_pipeline.tracking.aliases import PREVIOUS, ROLLED_BACK, aliases_of
from cxr_pipeline.tracking.versions import load_classifier

# Tags of a version. DECISION is set last, so that it marks a completed promotion stage.
DECISION, REASONS, DECIDED_IN, TRAINED_BY = "decision", "decision_reasons", "decision_run", "retraining"
PROMOTED, KEPT, STOPPED = "promoted", "not promoted", "stopped"
# Tag of a version and of a run: the drift verdict on the new images.
DRIFT = "drift"
# Tag of a run that ended without training.
SKIPPED = "skipped"
_LONGEST_TAG = 5000  # MLflow refuses longer values


def load_champion(name: str, version: int, *, kind: str, classes: Sequence[str]) -> ImageClassifier:
    """Load a version that a challenger of a task of this ``kind`` with these ``classes`` is compared with."""
    champion = load_classifier(f"models:/{name}/{version}")
    advice = "Remove the alias champion from it, so that the next version is promoted on the floors alone."
    champion.check_classes(kind, classes, model=f"{name} {version}", advice=advice)
    return champion


def decided_version(name: str, trained_by: str) -> tuple[int, str] | None:
    """Return the version that was decided on in the retraining with the digest ``trained_by``, and the decision.

    The decision is ``promoted``, ``not promoted`` or ``rolled back``. None if there is no such version.
    """
    versions = mlflow.MlflowClient().search_model_versions(f"name='{name}'", order_by=["version_number DESC"])
    for version in versions:
        if version.tags.get(TRAINED_BY) == trained_by and {DECISION, ROLLED_BACK} & set(version.tags):
            return int(version.version), "rolled back" if ROLLED_BACK in version.tags else version.tags[DECISION]
    return None


def note_reasons(
    name: str, version: int, reasons: Sequence[str], *, trained_by: str | None = None, drift: str | None = None
) -> None:
    """Tag a version with the reasons of its promotion decision, before an alias is moved; the decision is tagged later.

    ``trained_by`` is the digest of the retraining that trained it, if any, and ``drift`` the verdict on the new images
    if they were checked.
    """
    client, run = mlflow.MlflowClient(), mlflow.active_run()
    client.delete_model_version_tag(name, str(version), DECISION)
    tags = {REASONS: " ".join(reasons)[:_LONGEST_TAG]}
    tags |= {TRAINED_BY: trained_by} if trained_by else {}
    tags |= {DECIDED_IN: run.info.run_id} if run else {}
    tags |= {DRIFT: drift} if drift else {}
    for key, value in tags.items():
        client.set_model_version_tag(name, str(version), key, value)
    runs.set_tags({"version": f"{name} {version}"})


def note_decision(name: str, version: int, *, promoted: bool) -> None:
    """Tag a version and the active run with the decision, after the aliases were moved."""
    decision = PROMOTED if promoted else KEPT
    mlflow.MlflowClient().set_model_version_tag(name, str(version), DECISION, decision)
    runs.set_tags({DECISION: decision})
    if promoted:
        _announce(name, version)


def finish_decision(name: str, champion: int) -> None:
    """Tag the champion as promoted if a run was interrupted after it had moved the alias."""
    tags = mlflow.MlflowClient().get_model_version(name, str(champion)).tags
    if TRAINED_BY in tags and DECISION not in tags:
        mlflow.MlflowClient().set_model_version_tag(name, str(champion), DECISION, PROMOTED)
        _announce(name, champion)


def _announce(name: str, champion: int) -> None:
    tags = mlflow.MlflowClient().get_model_version(name, str(champion)).tags
    reasons, run_id = tags.get(REASONS, ""), tags.get(DECIDED_IN)
    details = {"version": champion, "previous": aliases_of(name)[PREVIOUS], "reasons": reasons, "run_id": run_id}
    webhook.notify("promoted", name, f"{name} {champion} is the new champion. {reasons}", **details)


def note_stop(name: str, reasons: Sequence[str]) -> None:
    """Tag the active run with the reasons why the retraining of a model stopped."""
    why = " ".join(reasons)
    runs.set_tags({DECISION: STOPPED, REASONS: why[:_LONGEST_TAG]})
    text = f"The retraining of {name} was stopped. {why}"
    webhook.notify("stopped", name, text, reasons=why, run_id=runs.active_run_id())
