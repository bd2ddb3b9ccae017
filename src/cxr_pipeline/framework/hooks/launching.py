"""Nodes that start cells of an experiment are told which run these belong to."""

from pathlib import Path
from typing import Any

import mlflow
from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Pipeline

from cxr_pipeline.experiments.cells import LAUNCH, Launch
from cxr_pipeline.framework.hooks.runs import Configured, task_of


class Launching(Configured):
    """Tells nodes that start cells of an experiment which run these belong to."""

    @hook_impl(trylast=True)
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Lay the launch into the catalog, after the MLflow run was started."""
        task = task_of(pipeline)
        if task is None or LAUNCH not in pipeline.inputs():
            return
        run = mlflow.active_run()
        catalog[LAUNCH] = MemoryDataset(
            Launch(
                project=str(run_params["project_path"]),
                place=str(Path.cwd()),
                conf_source=str(Path(self._config_loader.conf_source).absolute()),
                env=run_params["env"],
                runtime_params=run_params["runtime_params"] or {},
                tracking_uri=self._config_loader["globals"]["tracking_uri"],
                parent_run=run.info.run_id if run else None,
                parameters=self._config_loader["parameters"][task],
            ),
            copy_mode="assign",
        )
