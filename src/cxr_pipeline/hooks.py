"""What happens around a run: checks before any work, tracking in MLflow, a summary at the end."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import mlflow
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node, Pipeline
from kedro_mlflow.framework.hooks import MlflowHook
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cxr_pipeline import registry, sources
from cxr_pipeline.config import Ablation, Folders, Model, Scoring, Sources, Task, Thresholds, Tuning
from cxr_pipeline.config.experiments import check_cells
from cxr_pipeline.decision_rule import check_policy
from cxr_pipeline.experiments.cells import LAUNCH, Launch
from cxr_pipeline.locks import JobLock, Locked
from cxr_pipeline.models.weights import check_weights
from cxr_pipeline.nesting import flatten
from cxr_pipeline.registry import decisions, sending
from cxr_pipeline.report.leaderboard import name_the_first
from cxr_pipeline.sources.pseudonyms import key_fingerprint

_log = logging.getLogger(__name__)


class Configured:
    """A hook that looks the configuration up."""

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Remember the configuration."""
        self._config_loader = context.config_loader


class Preflight(Configured):
    """Looks, before any work, for what would stop the run later: films, weights, policies, a key."""

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Check the parameters that this run uses against what is on disk; scoring and drift read no source.

        Raises:
            UserError: a source or the weights are not there, a policy does not fit the kind of task, or there is no
                place for the key that patients are hashed with.
        """
        names = sorted(name for name in pipeline.inputs() if name.startswith("params:"))
        found = {type(value): value for value in map(catalog.load, names)}
        stages = {node.namespace.rpartition(".")[2] for node in pipeline.nodes if node.namespace}
        if not {Task, Folders} <= set(found) or Scoring in found or stages == {"drift"}:
            return
        task, raw = found[Task], found[Folders].raw
        if Sources in found:
            for name, source in found[Sources].root.items():
                sources.check_source(name, source.layout, raw / source.path, classes=task.classes, task=task.name)
        if Thresholds in found:
            for policy in (found[Thresholds].policy, *found[Thresholds].compared):
                check_policy(policy.model_dump(), task.kind)
        if Ablation in found:
            for model in check_cells(task.name, self._config_loader["parameters"][task.name], found[Ablation]):
                check_weights(model.name, model.weights, raw, task=task.name)
        if Tuning in found and found[Tuning].storage:
            from cxr_pipeline.experiments.search import check_storage

            check_storage(found[Tuning].storage.get_secret_value())
        if "registration" in stages:
            key_fingerprint(found[Folders].patient_key, make=True)
        if Model in found:
            check_weights(found[Model].name, found[Model].weights, raw, task=task.name)


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
        registry.check_server(uri)
        super().after_context_created(context)
        if urlparse(uri).scheme in ("http", "https"):
            self.mlflow_config.tracking.experiment.create_experiment_kwargs.artifact_location = None
        self._context = context

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Start the MLflow run in the task's experiment; phantoms have their own. What earlier runs left goes first."""
        task, phantom = _task_of(pipeline), _is_phantom(pipeline, catalog)
        cell = (run_params.get("runtime_params") or {}).get("cell")
        unsent = Path(self._context.config_loader["parameters"]["folders"]["unsent"])
        if not cell:
            _send_left(unsent)
        if task is not None:
            self.mlflow_config.tracking.experiment.name = registry.experiment_name(task, phantom=phantom)
            with registry.alone(self.mlflow_config.server.mlflow_tracking_uri):
                self.mlflow_config.setup(self._context)
        if cell:
            self.mlflow_config.tracking.run.name = cell["name"]
        super().before_pipeline_run(run_params, pipeline, catalog)
        sending.open_outbox(
            unsent,
            name=cell["name"] if cell else "+".join(run_params.get("pipeline_names") or ["__default__"]),
            command=" ".join(("kedro send", *(("--env", run_params["env"]) if run_params["env"] else ()))),
            version_file=_file_of(catalog, f"{task}.model_version") if task else None,
        )
        self._artifacts = _take_artifacts(pipeline, catalog) if self._is_mlflow_enabled else {}
        if cell and cell["parent_run"]:
            sending.set_tags({"mlflow.parentRunId": cell["parent_run"]})
        if task is not None:
            sending.set_tags({"task": task, "films": "phantom" if phantom else "real"})

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
            sending.log_params({self.sanitize_param_name(name): value for name, value in flatten(readable).items()})

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


class Launching(Configured):
    """Tells nodes that start cells of an experiment which run these belong to."""

    @hook_impl(trylast=True)
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Lay the launch into the catalog, after the MLflow run was started."""
        task = _task_of(pipeline)
        if task is None or LAUNCH not in pipeline.inputs():
            return
        run = mlflow.active_run()
        catalog[LAUNCH] = MemoryDataset(
            Launch(
                project=str(run_params["project_path"]),
                env=run_params["env"],
                runtime_params=run_params["runtime_params"] or {},
                parent_run=run.info.run_id if run else None,
                parameters=self._config_loader["parameters"][task],
            ),
            copy_mode="assign",
        )


class Locking:
    """Lets one retraining of a task run at a time."""

    _lock: JobLock | None = None

    @hook_impl(trylast=True)
    def before_pipeline_run(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Take the task's lock, after the MLflow run was started, whose id is on record with it.

        Raises:
            Locked: another retraining is at work; the MLflow run is ended and tagged.
        """
        task = _task_of(pipeline)
        if task is None or f"params:{task}.retraining" not in pipeline.inputs():
            return
        outputs = catalog.load("params:folders").outputs
        lock = JobLock(outputs / task / "retraining" / "job.lock", f"The retraining of {task}")
        run = mlflow.active_run()
        try:
            lock.take(run.info.run_id if run else None)
        except Locked:
            decisions.end_skipped("locked")
            raise
        self._lock = lock

    @hook_impl(tryfirst=True)
    def on_pipeline_error(self) -> None:
        """Give the lock back."""
        self._release()

    @hook_impl(trylast=True)
    def after_pipeline_run(self) -> None:
        """Give the lock back."""
        self._release()

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None


class Summary:
    """Prints, at the end of a run, the few figures that its user looks for."""

    @hook_impl(trylast=True)
    def after_pipeline_run(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Print a small table if the run registered a model version, a few lines if it compared models."""
        if "leaderboard_page" in pipeline.outputs():
            page = catalog["leaderboard_page"]._describe()["filepath"]
            lines = [*name_the_first(catalog.load("leaderboard")), f"leaderboard: {page}"]
            Console().print(Text("\n".join(lines), overflow="fold"))
        task = _task_of(pipeline)
        if task is None or f"{task}.model_version" not in pipeline.outputs():
            return
        metrics, version = catalog.load(f"{task}.metrics"), catalog.load(f"{task}.model_version")
        report = catalog[f"{task}.report"]._describe()["filepath"]
        Console().print(_summary(metrics, version, Path(report)))


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


def _summary(metrics: dict[str, Any], version: dict[str, Any], report: Path) -> Table:
    films = "phantom films: drawn, they say nothing about patients" if metrics["phantom"] else "test films"
    table = Table(title=f"{metrics['task']} ({metrics['n_images']} {films})", show_header=False, title_justify="left")
    mean = "mean " if len(metrics["thresholds"]) > 1 else ""
    for label, name in (("AUC", "auc"), ("sensitivity", "sensitivity"), ("specificity", "specificity")):
        table.add_row(f"{mean}{label}", _with_interval(**metrics["metrics"][name]))
    if "majority" in metrics:
        table.add_row("accuracy", _with_interval(**metrics["metrics"]["accuracy"]))
        always = metrics["majority"]
        table.add_row(f"always saying {always['class']}", _with_interval(always["accuracy"], None, None))
    if not mean:
        table.add_row("threshold", ", ".join(f"{name} {value:.3f}" for name, value in metrics["thresholds"].items()))
    table.add_row("report", Text(str(report), overflow="fold"))
    table.add_row("model version", f"{version['name']} {version['version'] or 'is not registered yet'}")
    return table


def _with_interval(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return "undefined"
    if low is None or high is None:
        return f"{value:.3f}"
    return f"{value:.3f} ({low:.3f} to {high:.3f})"


def _task_of(pipeline: Pipeline) -> str | None:
    tasks = {node.namespace.split(".")[0] for node in pipeline.nodes if node.namespace}
    return tasks.pop() if len(tasks) == 1 else None


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
    for found in registry.send_left(folder):
        if found.sent:
            _log.info("Sent what %s could not: %s.", found.name, found.sent)
        if found.problem:
            _log.warning("What %s could not send still waits: %s.", found.name, found.problem)


def _is_phantom(pipeline: Pipeline, catalog: DataCatalog) -> bool:
    name = f"params:{_task_of(pipeline)}.sources"
    return name in catalog and bool(catalog.load(name).phantom)
