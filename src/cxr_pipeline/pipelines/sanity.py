"""The sanity stage."""

import logging
from collections.abc import Mapping
from functools import partial
from typing import Any

import pandas as pd

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.images.store import PreparedImages
from cxr_pipeline.data.splits import member_splits
from cxr_pipeline.framework.config import Folders, Network, Sanity, Task, Training
from cxr_pipeline.pipelines.stage import Pipeline, node, stage
from cxr_pipeline.report.figures.sanity import sanity_figure

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
    """Run the sanity checks, in ``verdicts``, with the training parameters of the task."""
    from cxr_pipeline.experiments import sanity as checks
    from cxr_pipeline.training.image_sets import image_sets

    # Of an ensemble, the first network is checked.
    first, plan = member_splits(splits, training.folds)[0], sampling_plan[sampling_plan["member"] == 1]
    train, validation = image_sets(enhanced_images, manifest, first, plan, outputs=task.outputs)
    network, size = model.model_copy(update={"dropout": 0.0}), enhanced_images.recipe.size
    subject = checks.Subject(
        build=partial(network.build, size=size, task=task, training=training, raw=folders.raw),
        train=train,
        validation=validation,
        settings=training,
        exclusive=task.exclusive,
        features=folders.features,
        checkpoints=folders.checkpoints,
    )
    results = []
    for name, check in checks.CHECKS.items():
        result = check(subject, **getattr(sanity, name).model_dump(), seed=sanity.seed)
        verdict = "passed" if result["passed"] else "FAILED"
        logger.info("%s: %s. %s", name.replace("_", " "), verdict, result["sentence"])
        results.append(result)
    return {
        "task": task.name,
        "phantom": data_report["phantom"],
        "passed": all(result["passed"] for result in results),
        "verdicts": results,
    }


def require_sanity(sanity_report: Mapping[str, Any], sanity_figure: bytes, folders: Folders) -> None:
    """Fail the run, after report and figure are written, if a check failed."""
    failed = [result for result in sanity_report["verdicts"] if not result["passed"]]
    if failed:
        task, n_checks = sanity_report["task"], len(sanity_report["verdicts"])
        details = " ".join(
            f"{check['name'].replace('_', ' ').capitalize()}: {check['sentence']} Usual cause: {check['usual_cause']}."
            for check in failed
        )
        figure = folders.data / "08_reporting" / task / "sanity.png"
        raise UserError(f"{len(failed)} of {n_checks} sanity checks of {task} failed. {details} See {figure}.")


def create_pipeline() -> Pipeline:
    """Create the stage that checks training before a long run; a failed check fails the run."""
    return stage(
        "sanity",
        node(check_sanity, "sanity_report"),
        node(sanity_figure, "sanity_figure", report="sanity_report"),
        node(require_sanity, None),
    )
