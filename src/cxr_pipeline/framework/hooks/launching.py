"""Provide a description of the current run to nodes that start other runs."""

from pathlib import Path
from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Pipeline

from cxr_pipeline import tracking
from cxr_pipeline.experiments.task_run import CURRENT_RUN, TaskRun
from cxr_pipeline.framework.hooks.runs import Configured, task_of


class Launching(Configured):
    """Adds the current run to the catalog, for nodes that start cells, trials or a challenger."""

    @hook_impl(trylast=True)
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Add the `TaskRun` after the MLflow run was started."""
        task = task_of(pipeline)
        if task is None or CURRENT_RUN not in pipeline.inputs():
            return
        catalog[CURRENT_RUN] = MemoryDataset(
            TaskRun(
                task=task,
                project=str(run_params["project_path"]),
                cwd=str(Path.cwd()),
                conf_source=str(Path(self._config_loader.conf_source).absolute()),
                env=run_params["env"],
                runtime_params=run_params["runtime_params"] or {},
                parameters=self._config_loader["parameters"][task],
                tracking_uri=self._config_loader["globals"]["tracking_uri"],
                run_id=tracking.last_run_id(),
            ),
            copy_mode="assign",
        )
