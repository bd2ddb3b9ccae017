"""The tasks, and the merging of their parameters."""

from typing import Any

from kedro.config import OmegaConfigLoader

from cxr_pipeline.common.mappings import lay_over

TASKS = ("effusion", "pneumonia", "ailments", "findings", "abnormality", "chest14")


class TaskConfigLoader(OmegaConfigLoader):
    """Lays each task's block over the block ``defaults`` of the same environment.

    An environment is then merged over the one before it, and ``--params`` win over both, so that a
    task's value is the last one given of: base defaults, base task, environment defaults, environment
    task, command line.
    """

    def _merge_and_resolve(self, key: str, config_per_file: Any) -> dict[str, Any]:
        config: dict[str, Any] = super()._merge_and_resolve(key, config_per_file)
        if key != "parameters":
            return config
        defaults = config.pop("defaults", {})
        tasks = {task: lay_over(defaults, config.get(task, {})) for task in TASKS}
        return config | {task: block for task, block in tasks.items() if block}
