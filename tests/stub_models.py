"""Networks with known scores, their decision rules, and model versions in an MLflow file."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cxr_pipeline.common.errors import ImageRefused
from cxr_pipeline.data.images.recipe import Recipe
from cxr_pipeline.evaluation.decision_rule import DecisionRule, fit_decision_rule

if TYPE_CHECKING:
    import keras

    from cxr_pipeline.deployment.classifier import ImageClassifier
    from cxr_pipeline.experiments.search import StudyPlan


def fixed_rule(
    classes: Sequence[str] = ("nofinding", "effusion"),
    kind: str = "binary",
    *,
    threshold: float = 0.5,
    calibration: str = "none",
) -> DecisionRule:
    """Return a rule with the same fixed threshold for each output."""
    y_true, y_score = np.eye(len(classes)), np.eye(len(classes))
    if kind == "binary":
        y_true, y_score = np.array([[0], [0], [1], [1]]), np.array([[0.2], [0.6], [0.4], [0.8]])
    policy = {"rule": "fixed", "value": threshold}
    return fit_decision_rule(y_true, y_score, kind=kind, classes=tuple(classes), calibration=calibration, policy=policy)


def grey_network(size: int, weight: float = 1.0) -> "keras.Model":
    """Return a network whose score is the mean grey of an image, as a fraction of white, times ``weight``."""
    import keras

    from cxr_pipeline.training.networks.build import OUTPUT, POOLED

    constant = keras.initializers.Constant
    image = keras.Input((size, size, 1), name="image")
    grey = keras.layers.Conv2D(1, 1, kernel_initializer=constant(1 / 255))(image)
    mean = keras.layers.GlobalAveragePooling2D(name=POOLED)(grey)
    return keras.Model(image, keras.layers.Dense(1, name=OUTPUT, kernel_initializer=constant(weight))(mean))


def prepare(classifier: "ImageClassifier", contents: Iterable[bytes]) -> list[Any]:
    """Prepare the contents of image files for a classifier, each to an image or a refusal."""
    from cxr_pipeline.data.images.recipe import prepare_content

    prepared: list[Any] = []
    for content in contents:
        try:
            prepared.append(prepare_content(content, classifier.recipe))
        except ImageRefused as refusal:
            prepared.append(refusal)
    return prepared


def score(classifier: "ImageClassifier", contents: Iterable[bytes]) -> pd.DataFrame:
    """Score the contents of image files in one batch."""
    return classifier.score_batch(prepare(classifier, contents))


@cache
def empty_mlflow() -> bytes:
    """Return an empty SQLite file of MLflow, which takes seconds to create."""
    import mlflow

    with TemporaryDirectory() as folder:
        mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db").search_experiments()
        return Path(folder, "mlflow.db").read_bytes()


@contextmanager
def mlflow_file(folder: Path) -> Iterator[None]:
    """Use an empty MLflow in a SQLite file, with the experiment ``tests``."""
    import mlflow

    (folder / "mlflow.db").write_bytes(empty_mlflow())
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    mlflow.create_experiment("tests", artifact_location=str(folder / "artifacts"))
    mlflow.set_experiment("tests")
    try:
        yield
    finally:
        mlflow.set_tracking_uri(None)


def register(
    network: "keras.Model",
    rule: DecisionRule,
    recipe: Recipe,
    *,
    task: str = "effusion",
    phantom: bool = False,
    profile: Any = None,
) -> dict[str, Any]:
    """Register a network, and its reference profile if given, as the newest version of a task."""
    import mlflow

    from cxr_pipeline.deployment.classifier import ImageClassifier
    from cxr_pipeline.tracking import versions
    from cxr_pipeline.tracking.artifacts import log_profile

    auc = {"value": 0.75, "low": None, "high": None}
    with mlflow.start_run():
        if profile is not None:
            log_profile(profile)
        provenance = {"task": task, "images": "phantom" if phantom else "real", "data_digest": "d" * 64}
        classifier = ImageClassifier(network, recipe, rule, provenance)
        metrics = {"split": "test", "images_digest": "f" * 64, "n_images": 4, "thresholds": rule.thresholds}
        metrics["metrics"] = {"auc": auc}
        return versions.register_version(classifier, metrics=metrics, warnings=[], tags={"git_commit": "unknown"})


def plan_study(folder: Path, **values: Any) -> "StudyPlan":
    """Plan a study in a SQLite file."""
    from cxr_pipeline.experiments.search import StudyPlan

    storage = f"sqlite:///{folder}/studies.db"
    given = {"name": "effusion-1", "storage": storage, "direction": "maximize", "seed": 3, "folds": 1, "heartbeat": 1}
    return StudyPlan(**{**given, **values})
