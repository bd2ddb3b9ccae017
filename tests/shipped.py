"""The parameters in ``conf/``."""

from functools import cache
from pathlib import Path
from typing import Any

from cxr_pipeline import settings
from cxr_pipeline.framework.config_loader import TaskConfigLoader

CONF = Path(__file__).parents[1] / "conf"


@cache
def all_parameters(env: str = "base") -> dict[str, Any]:
    """Return the parameters of all tasks."""
    parameters: dict[str, Any] = TaskConfigLoader(str(CONF), env=env, **settings.CONFIG_LOADER_ARGS)["parameters"]
    return parameters


TASKS = tuple(name for name, block in all_parameters().items() if isinstance(block, dict) and "task" in block)


def parameters_of(task: str = "effusion", env: str = "base") -> dict[str, Any]:
    """Return the parameters of a task."""
    return dict(all_parameters(env)[task])
