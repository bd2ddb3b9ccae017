"""Nodes of the sanity stage."""

import logging
from collections.abc import Mapping
from functools import partial
from typing import Any

import pandas as pd

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.images.store import PreparedImages
from cxr_pipeline.framework.config import Folders, Network, Sanity, Task, Training
from cxr_pipeline.report.figures.sanity import sanity_figure
from cxr_pipeline.training.networks.weights import find_weights

logger = logging.getLogger(__name__)


def check_sanity(
    enhanced_images: PreparedImages,
    manifest: pd.DataFrame,
    splits: pd.DataFrame,
    sampling_plan: pd.DataFrame,
    data_report: Mapping[str, Any],
    task: Task,
    model: Network,
    training: Training,
    sanity: Sanity,
    folders: Folders,
) -> dict[str, Any]:
    """Check the training of the task in three ways.

    Returns:
        ``task``, ``phantom``, ``passed`` and ``verdicts``, see `cxr_pipeline.experiments.sanity.Verdict`.
    """
    from cxr_pipeline.experiments import sanity as checks
    from cxr_pipeline.training.image_sets import image_sets
    from cxr_pipeline.training.networks.build import build_model
    from cxr_pipeline.training.settings import TrainingSettings

    train, validation = image_sets(enhanced_images, manifest, splits, sampling_plan, outputs=task.outputs)
    build = partial(
        build_model,
        **model.model_dump(exclude={"weights", "dropout"}),
        weights_file=find_weights(model.name, model.weights, folders.raw),
        size=enhanced_images.recipe.size,
        n_outputs=len(task.outputs),
        exclusive=task.exclusive,
        cut=training.fine_tuning.cut,
        dropout=0.0,
        seed=training.seed,
    )
    subject = checks.Subject(
        build=build,
        train=train,
        validation=validation,
        settings=TrainingSettings.from_dict(training.model_dump()),
        exclusive=task.exclusive,
        folder=folders.features,
        checkpoints=folders.checkpoints,
    )
    verdicts = []
    for name, check in checks.CHECKS.items():
        verdict = check(subject, **getattr(sanity, name).model_dump(), seed=sanity.seed)
        logger.info("%s: %s. %s", name.replace("_", " "), "passed" if verdict.passed else "FAILED", verdict.sentence)
        verdicts.append(verdict.to_dict())
    return {
        "task": task.name,
        "phantom": data_report["phantom"],
        "passed": all(verdict["passed"] for verdict in verdicts),
        "verdicts": verdicts,
    }


def draw_sanity(sanity_report: Mapping[str, Any]) -> bytes:
    """Picture the three checks."""
    return sanity_figure(sanity_report)


def judge_sanity(sanity_report: Mapping[str, Any], sanity_figure: bytes, folders: Folders) -> None:
    """Stop the run if a verdict failed; report and figure are written by then.

    Raises:
        UserError: names the checks that failed, what that usually means and where the figure is.
    """
    failed = [verdict for verdict in sanity_report["verdicts"] if not verdict["passed"]]
    if not failed:
        return
    task = sanity_report["task"]
    found = " ".join(
        f"{verdict['name'].replace('_', ' ').capitalize()}: {verdict['sentence']} Usually {verdict['usual_cause']}."
        for verdict in failed
    )
    figure = folders.data / "08_reporting" / task / "sanity.png"
    raise UserError(
        f"{len(failed)} of {len(sanity_report['verdicts'])} sanity checks of {task} failed. {found} "
        f"See {figure} before you train."
    )
