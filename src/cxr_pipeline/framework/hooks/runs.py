"""The task, images and configuration of a run, for hooks."""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.pipeline import Node, Pipeline

from cxr_pipeline.common.mappings import flatten, hide_passwords
from cxr_pipeline.framework.config import Folders, plain

# The options of ``kedro run`` by their names among ``run_params``.
_OPTIONS = {
    "pipeline_names": "pipeline",
    "tags": "tags",
    "node_names": "nodes",
    "from_nodes": "from-nodes",
    "to_nodes": "to-nodes",
    "from_inputs": "from-inputs",
    "to_outputs": "to-outputs",
    "namespaces": "namespaces",
}


class Configured:
    """Base class of hooks that read the configuration."""

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Store the configuration."""
        self._config_loader = context.config_loader
        self._env: str | None = context.env

    @property
    def cell(self) -> dict[str, Any]:
        """``name``, ``folder`` and ``parent_run`` of a cell of an experiment; empty for other runs."""
        return (self._config_loader.runtime_params or {}).get("cell") or {}

    def task_folder(self, task: str) -> Path:
        """Return the folder of a task's intermediate data; a cell of an experiment has its own."""
        return Path(self.cell.get("folder", self._config_loader["globals"]["data"]), "02_intermediate", task)

    def run_command(self, pipeline: str) -> str:
        """Return the command that runs a pipeline in the environment of this run."""
        return command_line({"env": self._env, "pipeline_names": [pipeline]})


def command_line(run_params: Mapping[str, Any]) -> str:
    """Return the command of a run from Kedro's ``run_params``, without passwords.

    Example:
        >>> command_line({"env": "demo", "pipeline_names": ["effusion"], "runtime_params": {"effusion": {"a": [1]}}})
        "kedro run --env demo --pipeline=effusion --params 'effusion.a=[1]'"
    """
    given = {name: value for name, value in hide_passwords(run_params).items() if value}
    parts = ["kedro", "run", *(["--env", given["env"]] if "env" in given else [])]
    parts += [f"--{option}={','.join(given[name])}" for name, option in _OPTIONS.items() if name in given]
    parts += ["--only-missing-outputs"] if "only_missing_outputs" in given else []
    values = flatten(given.get("runtime_params", {})).items()
    text = [f"{name}={value if isinstance(value, str) else json.dumps(value, default=str)}" for name, value in values]
    return shlex.join([*parts, "--params", ",".join(text)] if text else parts)


def parameter_blocks(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the blocks of parameters among a node's inputs, in JSON types; `Folders` decide no content."""
    return {
        name: plain(value)
        for name, value in inputs.items()
        if name.startswith("params:") and not isinstance(value, Folders)
    }


def task_of_node(node: Node) -> str | None:
    """Return the task that a node belongs to, or None if it belongs to none."""
    return node.namespace.split(".")[0] if node.namespace else None


def tasks_of(pipeline: Pipeline) -> list[str]:
    """Return the names of the tasks that a pipeline belongs to, sorted."""
    return sorted({task for node in pipeline.nodes if (task := task_of_node(node)) is not None})


def task_of(pipeline: Pipeline) -> str | None:
    """Return the task of a pipeline, or None for the comparison; the preflight checks refuse several tasks."""
    return next(iter(tasks_of(pipeline)), None)
