"""The rollback stage."""

import logging

from cxr_pipeline.framework.config import Sources, Task
from cxr_pipeline.pipelines.stage import Pipeline, node, stage
from cxr_pipeline.tracking import aliases, runs

logger = logging.getLogger(__name__)


def roll_back(task: Task, sources: Sources) -> dict[str, int | None]:
    """Restore the previous champion."""
    model = aliases.model_name(task.name, phantom=sources.phantom)
    champion, withdrawn = aliases.roll_back(model)
    runs.set_tags({"champion": f"{model} {champion}", aliases.ROLLED_BACK: f"{model} {withdrawn}"})
    logger.info("%s %d is the champion again; version %d is no longer in use.", model, champion, withdrawn)
    return aliases.aliases_of(model)


def create_pipeline() -> Pipeline:
    """Create the pipeline that restores the previous champion."""
    return stage("rollback", node(roll_back, "aliases"))
