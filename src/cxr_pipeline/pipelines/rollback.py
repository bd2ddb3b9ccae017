"""The rollback stage."""

import logging

from cxr_pipeline.framework.config import Sources, Task
from cxr_pipeline.pipelines.stage import Pipeline, node, stage
from cxr_pipeline.tracking import aliases, runs, webhook

logger = logging.getLogger(__name__)


def roll_back(task: Task, sources: Sources) -> dict[str, int | None]:
    """Restore the previous champion."""
    model = aliases.model_name(task.name, phantom=sources.phantom)
    champion, withdrawn = aliases.roll_back(model)
    runs.set_tags({"champion": f"{model} {champion}", aliases.ROLLED_BACK: f"{model} {withdrawn}"})
    text = f"{model} {champion} is the champion again; version {withdrawn} is no longer in use."
    logger.info("%s", text)
    webhook.notify("rolled back", model, text, version=champion, previous=withdrawn, run_id=runs.active_run_id())
    return aliases.aliases_of(model)


def create_pipeline() -> Pipeline:
    """Create the pipeline that restores the previous champion."""
    return stage("rollback", node(roll_back, "aliases"))
