"""Versions of a model: registered, found again, loaded."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import numpy as np

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.common.mappings import hide_passwords
from cxr_pipeline.data.images.recipe import Recipe
from cxr_pipeline.deployment.classifier import ImageClassifier
from cxr_pipeline.evaluation.decision_rule import DecisionRule
from cxr_pipeline.report.pages.card import short_card
from cxr_pipeline.tracking import sending
from cxr_pipeline.tracking.aliases import CHAMPION, aliases_of
from cxr_pipeline.tracking.naming import model_name
from cxr_pipeline.tracking.server import is_away, reason, without_password

if TYPE_CHECKING:
    import keras


def register_version(
    *,
    task: str,
    phantom: bool,
    model: "keras.Model",
    recipe: Recipe,
    decision_rule: DecisionRule,
    metrics: Mapping[str, Any],
    data_digest: str,
    example: np.ndarray[Any, np.dtype[np.uint8]],
    tags: Mapping[str, str],
) -> dict[str, Any]:
    """Log a model to the active run and register it as the newest version of its task.

    Args:
        task: name of the task.
        phantom: whether any image that it was trained on is drawn.
        model: the network, as ``ImageClassifier`` holds it.
        recipe: how an image becomes the network's input.
        decision_rule: how its score becomes a probability and a decision.
        metrics: content of ``metrics.json``, for the card in the version's description.
        data_digest: digest of the images and labels that it was trained on.
        example: uint8 [height, width], an image to show what the model takes.
        tags: more tags of the version, such as the git commit.

    Returns:
        ``name``, ``version`` (a number), ``uri``, ``run_id`` and ``digest`` (of weights, recipe and rule). Where MLflow
        is away, ``version`` and ``uri`` are None, and what is registered is kept, to be sent later.
    """
    from cxr_pipeline.deployment import serving

    provenance = {"task": task, "images": "phantom" if phantom else "real", "data_digest": data_digest}
    classifier = ImageClassifier(model, recipe, decision_rule, provenance)
    with tempfile.TemporaryDirectory() as folder:
        classifier.save(Path(folder, "classifier"))
        return sending.register(
            Path(folder, "classifier"),
            name=model_name(task, phantom=phantom),
            description=short_card(metrics, kind=decision_rule.kind, classes=decision_rule.classes, phantom=phantom),
            outputs=list(decision_rule.outputs),
            example=serving.example_request(example).to_dict("list"),
            limits=serving.limits_of(recipe),
            tags={**provenance, "digest": classifier.digest, **tags},
        )


def newest_version(name: str) -> str:
    """Find the newest version of a registered model.

    Returns:
        its URI, such as ``models:/cxr-effusion/3``.

    Raises:
        UserError: there is none.
    """
    versions = mlflow.MlflowClient().search_model_versions(f"name='{name}'")
    numbers = [int(found.version) for found in versions if found.status == "READY"]
    if not numbers:
        task, demo = name.removeprefix("cxr-").removesuffix("-demo"), name.endswith("-demo")
        raise UserError(
            f"No version of {name} is registered in MLflow at {without_password(mlflow.get_tracking_uri())}. Train one "
            f"first: kedro run{' --env demo' if demo else ''} --pipeline={task}; or name another model: "
            f"--params {task}.scoring.model=models:/NAME/VERSION. What was trained in the demo environment is "
            "used there alone, with --env demo."
        )
    return f"models:/{name}/{max(numbers)}"


def version_in_use(name: str) -> str:
    """Find the version that new images are scored with: ``@champion``, or the newest where no version has that alias.

    Returns:
        its URI, such as ``models:/cxr-effusion@champion``.

    Raises:
        UserError: no version is registered.
    """
    newest = newest_version(name)
    return newest if aliases_of(name)[CHAMPION] is None else f"models:/{name}@{CHAMPION}"


@dataclass(frozen=True)
class ModelVersion:
    """Which model a URI means; name and number are null for one that was not registered."""

    uri: str
    name: str | None
    version: int | None
    run_id: str | None


def resolve_version(uri: str) -> ModelVersion:
    """Say which model a URI means today, so that it can be found again when an alias has moved on.

    Args:
        uri: ``models:/NAME/VERSION``, ``models:/NAME@ALIAS``, ``models:/NAME/latest``, or another URI of an
            MLflow model, which is taken as it is.

    Raises:
        UserError: there is no such version.
    """
    if not uri.startswith("models:/"):
        return ModelVersion(uri, name=None, version=None, run_id=None)
    from mlflow.store.artifact.utils.models import get_model_name_and_version

    client = mlflow.MlflowClient()
    try:
        name, *number = get_model_name_and_version(client, uri)
        if not number:
            return ModelVersion(uri, name=None, version=None, run_id=None)
        run_id = client.get_model_version(name, number[0]).run_id
    except mlflow.MlflowException as error:
        if is_away(error):
            raise
        raise _no_model(uri, reason(error)) from error
    return ModelVersion(f"models:/{name}/{number[0]}", name=name, version=int(number[0]), run_id=run_id)


def load_classifier(uri: str) -> ImageClassifier:
    """Load what a registered version does into this process, without MLflow around it.

    The code that the version brought along is left alone: this package's own runs.

    Raises:
        UserError: there is no model of this project at ``uri``.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            files = Path(mlflow.artifacts.download_artifacts(uri, dst_path=folder), "artifacts", "classifier")
        except (mlflow.MlflowException, OSError) as error:
            if is_away(error):
                raise
            raise _no_model(uri, reason(error)) from error
        if not files.is_dir():
            raise _no_model(uri, "it is a model, but none that this project registered")
        return ImageClassifier.load(files)


def _no_model(uri: str, why: str) -> UserError:
    server = without_password(mlflow.get_tracking_uri())
    return UserError(
        f"No model to score images with is at {hide_passwords(uri)} in MLflow at {server}: {why}. Expected an MLflow "
        "URI such as models:/cxr-effusion/1 or models:/cxr-effusion@champion; kedro mlflow ui shows what there is."
    )
