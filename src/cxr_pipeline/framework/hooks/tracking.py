"""Tracking in MLflow."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog
from kedro.pipeline import Node, Pipeline
from kedro_mlflow.framework.hooks import MlflowHook
from pydantic import BaseModel

from cxr_pipeline import tracking
from cxr_pipeline.common.mappings import flatten, hide_passwords
from cxr_pipeline.framework.config import Folders
from cxr_pipeline.framework.hooks.runs import is_phantom, task_of
from cxr_pipeline.tracking import sending

_log = logging.getLogger(__name__)

# Of a run, in MLflow's databases.
LONGEST_NAME = 250


class Tracking(MlflowHook):  # type: ignore[misc]
    """kedro-mlflow's hook, with one experiment per task and parameters that can be read and compared.

    A server that goes away does not end a run: all that kedro-mlflow would send itself goes through `sending`.
    """

    _artifacts: Mapping[str, tuple[Path, str | None]] = {}

    @hook_impl(tryfirst=True)
    def after_context_created(self, context: KedroContext) -> None:
        """Check that the tracking server answers before kedro-mlflow waits for it.

        Raises:
            UserError: it does not.
        """
        uri = context.config_loader["globals"]["tracking_uri"]
        tracking.check_server(uri)
        super().after_context_created(context)
        if urlparse(uri).scheme in ("http", "https"):
            self.mlflow_config.tracking.experiment.create_experiment_kwargs.artifact_location = None
        self._context = context

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Start the MLflow run in the task's experiment; phantoms have their own. What earlier runs left goes first."""
        task, phantom = task_of(pipeline), is_phantom(pipeline, catalog)
        cell = (run_params.get("runtime_params") or {}).get("cell")
        unsent = Path(self._context.config_loader["parameters"]["folders"]["unsent"])
        if not cell:
            _send_left(unsent)
        if task is not None:
            self.mlflow_config.tracking.experiment.name = tracking.experiment_name(task, phantom=phantom)
            with tracking.alone(self.mlflow_config.server.mlflow_tracking_uri):
                self.mlflow_config.setup(self._context)
        if cell:
            self.mlflow_config.tracking.run.name = cell["name"][:LONGEST_NAME]
        super().before_pipeline_run(hide_passwords(run_params), pipeline, catalog)
        sending.open_outbox(
            unsent,
            name=cell["name"] if cell else "+".join(run_params.get("pipeline_names") or ["__default__"]),
            command=" ".join(("kedro send", *(("--env", run_params["env"]) if run_params["env"] else ()))),
            version_file=_file_of(catalog, f"{task}.model_version") if task else None,
            parent=cell["parent_run"] if cell else None,
        )
        self._artifacts = _take_artifacts(pipeline, catalog) if self._is_mlflow_enabled else {}
        if cell and cell["parent_run"]:
            sending.set_tags({"mlflow.parentRunId": cell["parent_run"]})
        if task is not None:
            sending.set_tags({"task": task, "images": "phantom" if phantom else "real"})

    @hook_impl
    def before_node_run(self, node: Node, inputs: dict[str, Any]) -> None:
        """Log a node's parameters flat, without the task's name: ``training.epochs``."""
        task = (node.namespace or "").split(".")[0]
        readable = {
            name.removeprefix("params:").removeprefix(f"{task}."): (
                value.model_dump(mode="json") if isinstance(value, BaseModel) else value
            )
            for name, value in inputs.items()
            if name.startswith("params:") and not isinstance(value, Folders)
        }
        if self._is_mlflow_enabled:
            flat = flatten(hide_passwords(readable))
            sending.log_params({self.sanitize_param_name(name): value for name, value in flat.items()})

    @hook_impl
    def after_dataset_saved(self, dataset_name: str) -> None:
        """Log what was saved, where the catalog says that it is an artifact."""
        if dataset_name in self._artifacts:
            sending.log_artifact(*self._artifacts[dataset_name])

    @hook_impl
    def after_pipeline_run(self) -> None:
        """End the MLflow run."""
        self._end("FINISHED")

    @hook_impl
    def on_pipeline_error(self) -> None:
        """End the MLflow run as failed."""
        self._end("FAILED")

    def _end(self, status: str) -> None:
        if self._is_mlflow_enabled and not self._already_active_mlflow:
            sending.end_run(status)


class Sent:
    """Ends a run with a message where MLflow has not got all that it told. The last of all hooks."""

    @hook_impl(trylast=True)
    def after_pipeline_run(self, run_params: dict[str, Any]) -> None:
        """Check that everything was sent; a cell leaves that to the run that it belongs to.

        Raises:
            NotSent: it was not.
        """
        try:
            sending.check_sent()
        except sending.NotSent as left:
            if not (run_params.get("runtime_params") or {}).get("cell"):
                raise
            _log.warning("%s", left)

    @hook_impl(trylast=True)
    def on_pipeline_error(self) -> None:
        """Say what was not sent, beside what ended the run."""
        try:
            sending.check_sent()
        except sending.NotSent as left:
            _log.warning("%s", left)


def _file_of(catalog: DataCatalog, name: str) -> str | None:
    return str(catalog[name]._describe()["filepath"]) if name in catalog else None


def _take_artifacts(pipeline: Pipeline, catalog: DataCatalog) -> dict[str, tuple[Path, str | None]]:
    """Keep the catalog's artifacts from logging themselves, which ends the run where a server is away."""
    taken = {}
    for name in sorted(pipeline.all_outputs()):
        dataset: Any = catalog.get(name)
        if getattr(dataset, "_logging_activated", False):
            dataset._logging_activated = False
            taken[name] = (Path(dataset._filepath), dataset.artifact_path)
    return taken


def _send_left(folder: Path) -> None:
    for found in tracking.send_left(folder):
        if found.sent:
            _log.info("Sent what %s could not: %s.", found.name, found.sent)
        if found.problem:
            _log.warning("What %s could not send still waits: %s.", found.name, found.problem)
