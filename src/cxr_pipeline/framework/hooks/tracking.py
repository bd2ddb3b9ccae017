"""Tracking in MLflow."""

import re
from pathlib import Path
from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog
from kedro.pipeline import Node, Pipeline

from cxr_pipeline import tracking
from cxr_pipeline.common.mappings import flatten, hide_passwords
from cxr_pipeline.framework.hooks.runs import Configured, is_phantom, parameter_blocks, task_of, task_of_node
from cxr_pipeline.tracking import runs

# Maximum length of the name of a parameter in MLflow, and the characters that are not allowed in it.
_LONGEST_KEY = 250
_REFUSED = re.compile(r"[^\w.\- :]")


class Tracking(Configured):
    """Logs a run to MLflow: an experiment for each task, parameters with dotted names, tags, artifacts, status.

    kedro-mlflow logs a typed parameter as one string, and has one experiment for a whole project.
    """

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Start the MLflow run. A pipeline without a task, such as the comparison, has none."""
        self._catalog = catalog
        task = task_of(pipeline)
        if task is None:
            return
        phantom = is_phantom(pipeline, catalog)
        cell = (run_params.get("runtime_params") or {}).get("cell") or {}
        given = {name: value for name, value in hide_passwords(run_params).items() if value}
        tracking.start_run(
            tracking.model_name(task, phantom=phantom),
            name=cell.get("name") or "+".join(run_params.get("pipeline_names") or ["__default__"]),
            artifacts=self._config_loader["globals"]["artifacts"],
            parent=cell.get("parent_run"),
            tags={**given, "task": task, "images": "phantom" if phantom else "real"},
        )

    @hook_impl
    def before_node_run(self, node: Node, inputs: dict[str, Any]) -> None:
        """Log a node's parameters by dotted name, without the task's name: ``training.epochs``."""
        task = task_of_node(node)
        blocks = parameter_blocks(inputs)
        named = {name.removeprefix("params:").removeprefix(f"{task}."): block for name, block in blocks.items()}
        flat = flatten(hide_passwords(named))
        tracking.log_params({_REFUSED.sub("_", name)[:_LONGEST_KEY]: value for name, value in flat.items()})

    @hook_impl
    def after_dataset_saved(self, dataset_name: str) -> None:
        """Log a saved file or folder if its catalog entry has ``metadata: {mlflow: artifact}``."""
        dataset: Any = self._catalog[dataset_name]
        if (getattr(dataset, "metadata", None) or {}).get("mlflow") == "artifact":
            runs.log_artifact(Path(dataset._describe()["filepath"]))

    @hook_impl
    def after_pipeline_run(self) -> None:
        """End the MLflow run."""
        tracking.end_active_run("FINISHED")

    @hook_impl
    def on_pipeline_error(self, error: BaseException) -> None:
        """End the MLflow run: ``FAILED`` after an error, ``KILLED`` after SIGINT or SIGTERM."""
        tracking.end_active_run("FAILED" if isinstance(error, Exception) else "KILLED")
