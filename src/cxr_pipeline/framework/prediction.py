"""Score single image files with a registered classifier."""

from collections.abc import Sequence
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro.utils import find_kedro_project

from cxr_pipeline.common.errors import ImageRefused, UserError
from cxr_pipeline.data.images.decoding import read_bytes
from cxr_pipeline.data.images.recipe import prepare_content
from cxr_pipeline.deployment.classifier import ImageClassifier, Prepared
from cxr_pipeline.framework.config import Drift, Scoring, TaskParameters
from cxr_pipeline.tracking import aliases, server, versions
from cxr_pipeline.tracking.artifacts import usable_profile

if TYPE_CHECKING:
    from cxr_pipeline.deployment.scoring.out_of_distribution import Screening

_BATCH_SIZE = 32


@dataclass(frozen=True, eq=False)
class FileClassifier:
    """A registered version that scores image files.

    Args:
        version: its URI in MLflow, name and number.
        chosen: why this version was chosen, such as ``"the champion"``.
        classifier: network, image preparation and decision rule.
        screening: flags out-of-distribution images; None if the version has no reference profile.
    """

    version: versions.ModelVersion
    chosen: str
    classifier: ImageClassifier
    screening: "Screening | None"

    def predict(self, *images: str | Path) -> pd.DataFrame:
        """Score image files: PNG, JPEG, TIFF, BMP, WEBP or DICOM of any size.

        Returns:
            A row per file, in order: ``image`` (as given), the columns of `ImageClassifier.score_batch`, and
            ``detail``, an explanation of the refusal. ``reason`` is also set for images that are scored, but out of
            distribution.
        """
        table = self.score([self.prepare(Path(image)) for image in images])
        table.insert(0, "image", [str(image) for image in images])
        return table

    def prepare(self, image: Path | bytes) -> Prepared:
        """Convert a file, or its content, to the input of the network, or return why it is refused."""
        try:
            return prepare_content(image if isinstance(image, bytes) else read_bytes(image), self.classifier.recipe)
        except ImageRefused as refusal:
            return refusal

    def score(self, prepared: Sequence[Prepared]) -> pd.DataFrame:
        """Return the rows of `predict`, without ``image``, for prepared images."""
        scorer = self.screening or self.classifier
        tables = []
        for start in range(0, len(prepared), _BATCH_SIZE):
            scored = scorer.score_batch(prepared[start : start + _BATCH_SIZE])
            tables.append(scored[0] if isinstance(scored, tuple) else scored)
        table = pd.concat(tables or [self.classifier.score_batch([])], ignore_index=True)
        details = [image.detail if isinstance(image, ImageRefused) else None for image in prepared]
        return table.assign(detail=pd.Series(details, dtype="str"))


def load_classifier(
    task: str, *, version: str | None = None, env: str | None = None, project: str | Path | None = None
) -> FileClassifier:
    """Load a registered classifier of a task.

    Args:
        task: name of the task, such as ``"effusion"``.
        version: an MLflow model URI, such as ``"models:/cxr-effusion/3"``; by default the champion or, if there is
            none, the newest version.
        env: environment of the configuration, such as ``"demo"``.
        project: folder of the project; by default that of the working directory.

    Raises:
        UserError: there is no project, task or version, or the version has other classes than the task.
        Unavailable: MLflow does not answer.

    Example:
        In the folder of a project with a trained model::

            from cxr_pipeline import load_classifier

            classifier = load_classifier("effusion")
            classifier.predict("image.png")[["image", "probability", "decision", "reason"]]
    """
    folder = Path(project) if project else find_kedro_project(Path.cwd())
    if folder is None or not (folder / "pyproject.toml").is_file():
        raise UserError(f"{folder or Path.cwd()} is not a project. Give its folder, or change to it: cd FOLDER")
    with chdir(folder):  # paths of the configuration are relative to the project of the working directory
        bootstrap_project(Path.cwd())
        loader = KedroSession.create(Path.cwd(), env=env).load_context().config_loader
        config, addresses = loader["parameters"], loader["globals"]
    if "task" not in config.get(task, {}):
        known = [name for name, block in config.items() if isinstance(block, dict) and "task" in block]
        local = f" Leave out --env {env} for a task in conf/local." if env else ""
        raise UserError(f"The configuration has no task {task}. Expected one of {', '.join(known)}.{local}")
    parameters = TaskParameters.model_validate(config[task])
    server.connect(addresses["tracking_uri"], artifacts=addresses["artifacts"])
    name = aliases.model_name(task, phantom=parameters.sources.phantom)
    found, chosen = versions.choose_version(name, version)
    classifier = versions.load_classifier(found.uri)
    classifier.check_classes(parameters.task.kind, tuple(parameters.task.classes), model=f"The model {found.uri}")
    screening = screening_of(classifier, found, parameters.scoring, parameters.drift)
    return FileClassifier(found, chosen, classifier, screening)


def screening_of(
    classifier: ImageClassifier, version: versions.ModelVersion, scoring: Scoring, drift: Drift
) -> "Screening | None":
    """Return the screening of a version for out-of-distribution images; None without a reference profile."""
    from cxr_pipeline.deployment.scoring.out_of_distribution import Screening

    profile = usable_profile(version)
    if profile is None:
        return None
    return Screening(
        classifier,
        profile,
        **scoring.model_dump(include={"out_of_distribution", "false_alarms"}),
        **drift.model_dump(include={"min_images", "max_images", "seed"}),
    )
