"""Versions of a registered model: register, find and load them."""

import io
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mlflow

import cxr_pipeline
from cxr_pipeline.common.errors import UserError
from cxr_pipeline.common.files import explain_damage
from cxr_pipeline.common.mappings import hide_passwords
from cxr_pipeline.deployment.classifier import MODEL_FILE, ImageClassifier
from cxr_pipeline.report.formatting import shorten
from cxr_pipeline.report.pages.report import short_card
from cxr_pipeline.tracking import runs
from cxr_pipeline.tracking.aliases import CHAMPION, aliases_of, model_name, task_and_environment
from cxr_pipeline.tracking.server import is_unavailable, reason, without_password

# Tag with the warnings about a version, and the maximum length of a tag or description in MLflow's databases.
WARNINGS, _LONGEST = "warnings", 5000


def register_version(
    classifier: ImageClassifier, *, metrics: Mapping[str, Any], warnings: Sequence[str], tags: Mapping[str, str]
) -> dict[str, Any]:
    """Log a classifier to the active run and register it as the newest version of the task in its provenance.

    The description of the version is written from ``metrics``, the content of ``metrics.json``, and the ``warnings``,
    which also become the tag ``warnings``.

    Returns:
        ``name``, ``version`` (a number), ``uri``, ``run_id``, ``run_url`` (its page; None without a server), ``digest``
        (of weights, recipe and rule), ``git_commit`` and ``registered`` (the time).
    """
    from cxr_pipeline.deployment import serving

    recipe, rule, provenance = classifier.recipe, classifier.decision_rule, classifier.provenance
    phantom = provenance["images"] == "phantom"
    name = model_name(provenance["task"], phantom=phantom)
    if warnings:
        tags = {**tags, WARNINGS: shorten(" ".join(warnings), _LONGEST)}
    tags = {**provenance, "digest": classifier.digest, **tags}
    import_path = list(sys.path)
    with tempfile.TemporaryDirectory() as folder:
        classifier.save(Path(folder, "classifier"))
        # pyfunc.log_model does not pass run_id, and would start another run in a thread without an active run.
        logged = mlflow.models.Model.log(
            artifact_path=None,
            # The name by which the UI tells the models of an experiment apart.
            name=f"{classifier.model.name}_{recipe.size}px",
            flavor=mlflow.pyfunc,
            run_id=runs.active_run_id(),
            # A step without metrics: MLflow would copy all metrics of step 0 to the model, hundreds for many classes.
            step=-1,
            python_model=serving.__file__,
            artifacts={"classifier": str(Path(folder, "classifier"))},
            code_paths=[str(Path(cxr_pipeline.__file__).parent)],
            pip_requirements=serving.requirements(classifier),
            signature=serving.signature(list(rule.outputs)),
            input_example=serving.example_request(recipe.size),
            model_config=serving.limits_of(recipe),
            tags=tags,
        )
    runs.log_model_metrics(metrics, logged.model_id)
    # MLflow adds the copy of this package to the import path when it checks the model.
    sys.path[:] = import_path
    with redirect_stderr(io.StringIO()):  # MLflow prints two lines, which the summary of the run repeats.
        number = int(mlflow.register_model(logged.model_uri, name, tags=tags).version)
    card = short_card(metrics, warnings, kind=rule.kind, classes=rule.classes, phantom=phantom)
    description = shorten(card, _LONGEST)
    mlflow.MlflowClient().update_model_version(name, str(number), description)
    # The first one is the description of the run.
    runs.set_tags({"mlflow.note.content": description, "version": f"{name} {number}"})
    return {
        "name": name,
        "version": number,
        "uri": f"models:/{name}/{number}",
        "run_id": logged.run_id,
        "run_url": runs.url_of(logged.run_id),
        "digest": classifier.digest,
        "git_commit": tags["git_commit"],
        "registered": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
    }


def choose_version(name: str, uri: str | None = None) -> tuple["ModelVersion", str]:
    """Return the version at a URI or of a number or, for None, the champion, or else the newest; and the reason."""
    if uri is not None:
        return resolve_version(f"models:/{name}/{uri}" if uri.isdecimal() else uri), "chosen by its URI"
    if aliases_of(name)[CHAMPION] is not None:
        return resolve_version(f"models:/{name}@{CHAMPION}"), "the champion"
    versions = mlflow.MlflowClient().search_model_versions(f"name='{name}'")
    numbers = [int(version.version) for version in versions if version.status == "READY"]
    if not numbers:
        raise no_version(name)
    reason = f"the newest version, because no version of {name} has the alias champion"
    return resolve_version(f"models:/{name}/{max(numbers)}"), reason


def no_version(name: str) -> UserError:
    """Return the error that a model has no version."""
    task, env = task_and_environment(name)
    return UserError(
        f"No version of {name} is registered in MLflow at {without_password(mlflow.get_tracking_uri())}. Train one "
        f"first: kedro run{env} --pipeline={task}. Models trained with --env demo are only used with --env demo. To "
        "use another model: --model models:/NAME/VERSION with kedro predict and kedro reader, "
        f"--params {task}.scoring.model=models:/NAME/VERSION with kedro run."
    )


@dataclass(frozen=True)
class ModelVersion:
    """The model at a URI without aliases; for one that is not registered, the name, number and run are None."""

    uri: str
    name: str | None = None
    version: int | None = None
    run_id: str | None = None

    def tag_run(self) -> None:
        """Tag the run of this process as one that uses this version, by which the UI tells runs of scoring apart."""
        runs.set_tags({"version": f"{self.name} {self.version}" if self.name else self.uri})


def resolve_version(uri: str) -> ModelVersion:
    """Resolve an MLflow URI to the current version, to find that version again after an alias has moved.

    ``models:/NAME/VERSION``, ``models:/NAME@ALIAS`` and ``models:/NAME/latest`` are resolved; other URIs are kept.

    Raises:
        UserError: There is no such version.
    """
    if not uri.startswith("models:/"):
        return ModelVersion(uri)
    from mlflow.store.artifact.utils.models import get_model_name_and_version

    client = mlflow.MlflowClient()
    with _explain_missing(uri):
        name, *number = get_model_name_and_version(client, uri)
        if not number:
            return ModelVersion(uri)
        run_id = client.get_model_version(name, number[0]).run_id
    return ModelVersion(f"models:/{name}/{number[0]}", name=name, version=int(number[0]), run_id=run_id)


def tags_of(version: ModelVersion) -> dict[str, str]:
    """Return the tags of a version; empty for a model that is not registered."""
    if version.name is None:
        return {}
    return dict(mlflow.MlflowClient().get_model_version(version.name, str(version.version)).tags)


def description_of(version: ModelVersion) -> str:
    """Return the description of a version, Markdown; empty for a model that is not registered."""
    if version.name is None:
        return ""
    return str(mlflow.MlflowClient().get_model_version(version.name, str(version.version)).description or "")


def load_classifier(uri: str) -> ImageClassifier:
    """Load the classifier of a version; it runs the code of this package, not the copy registered with the version."""
    with (
        _downloaded(uri) as files,
        explain_damage(f"The model {uri} in MLflow", "Restore a copy of its artifacts, or train it again."),
    ):
        return ImageClassifier.load(files)


@contextmanager
def keras_file(uri: str) -> Iterator[Path]:
    """Yield a temporary copy of the Keras file of a version."""
    with _downloaded(uri) as files:
        yield files / MODEL_FILE


@contextmanager
def _downloaded(uri: str) -> Iterator[Path]:
    """Yield a temporary folder with the files of a version's classifier."""
    with tempfile.TemporaryDirectory() as folder:
        with _explain_missing(uri):
            files = Path(mlflow.artifacts.download_artifacts(uri, dst_path=folder), "artifacts", "classifier")
            if not files.is_dir():
                raise FileNotFoundError("its artifacts were deleted, or another program registered it")
        yield files


@contextmanager
def _explain_missing(uri: str) -> Iterator[None]:
    """Raise a `UserError` if MLflow has no model at a URI, and MLflow's own error if it is unavailable."""
    try:
        yield
    except (mlflow.MlflowException, OSError) as error:
        if is_unavailable(error):
            raise
        server = without_password(mlflow.get_tracking_uri())
        raise UserError(
            f"No usable model at {hide_passwords(uri)} in MLflow at {server}: {reason(error).rstrip('.')}. Expected an "
            "MLflow URI such as models:/cxr-effusion/1 or models:/cxr-effusion@champion; kedro mlflow ui lists the "
            "versions."
        ) from error
