"""Parameters as a file that ``kedro run --config`` takes."""

from collections.abc import Mapping
from typing import Any

import yaml

from cxr_pipeline.common.mappings import lay_over

# What belongs to the search and not to the run that takes its result.
OF_EXPERIMENTS = ("tuning", "ablation", "sanity", "parallel", "retraining")


def run_file(
    *,
    task: str,
    env: str | None,
    conf_source: str | None,
    runtime_params: Mapping[str, Any],
    overrides: Mapping[str, Any],
    origin: str,
) -> str:
    """Write the run of a task with other parameters as Kedro reads it.

    Args:
        task: name of its pipeline.
        env: Kedro environment; None for the default.
        conf_source: folder of the configuration; None for the project's own.
        runtime_params: what was given as ``--params`` before, nested; kept, but for the blocks of experiments.
        overrides: parameters below the task's block, nested; they win over ``runtime_params``.
        origin: where the parameters come from, in a line.

    Returns:
        YAML with one section, ``run``.
    """
    kept = dict(runtime_params)
    if isinstance(kept.get(task), Mapping):
        kept[task] = {name: value for name, value in kept[task].items() if name not in OF_EXPERIMENTS}
    params = lay_over(kept, {task: overrides})
    given = {name: value for name, value in {"env": env, "conf_source": conf_source}.items() if value}
    section = {"pipelines": task, **given, "params": params}
    head = f"# {' '.join(origin.split())}\n# Take it with: kedro run --config <this file>\n"
    return head + yaml.safe_dump({"run": section}, sort_keys=False, allow_unicode=True)
