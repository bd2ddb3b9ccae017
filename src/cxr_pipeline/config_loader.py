"""How a task's parameters come together."""

from collections.abc import Mapping
from typing import Any

from kedro.config import OmegaConfigLoader

from cxr_pipeline.config import TASKS


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


def lay_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two nested mappings; where both have a value, the upper one counts.

    Example:
        >>> lay_over({"a": {"x": 1, "y": 2}}, {"a": {"y": 3}})
        {'a': {'x': 1, 'y': 3}}
    """
    merged = dict(below)
    for key, value in above.items():
        earlier = merged.get(key)
        if isinstance(earlier, Mapping) and isinstance(value, Mapping):
            merged[key] = lay_over(earlier, value)
        else:
            merged[key] = value
    return merged
