"""The lock and the MLflow run of a run, from its start to its end."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node, Pipeline

from cxr_pipeline.common.files import remove_leftovers, written_atomically
from cxr_pipeline.common.locks import RunLock
from cxr_pipeline.common.mappings import flatten, hide_passwords, json_digest
from cxr_pipeline.experiments.task_run import CURRENT_RUN, TaskRun
from cxr_pipeline.framework.exit import stop_behind
from cxr_pipeline.framework.hooks.runs import Configured, command_line, parameter_blocks, task_of, task_of_node
from cxr_pipeline.tracking import aliases, runs

# Maximum length of the name of a parameter in MLflow, and the characters that are not allowed in it.
_LONGEST_KEY = 250
_REFUSED = re.compile(r"[^\w.\- :]")


class Lifecycle(Configured):
    """Holds the lock on the data folder of a task while one of its pipelines runs, and logs the run to MLflow.

    Two runs at once would overwrite each other's files, and register the network of one with the parameters of the
    other.
    """

    _lock: RunLock | None = None

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Acquire the lock, start the MLflow run, and provide a `TaskRun` to nodes that start other runs.

        A pipeline without a task, such as the comparison, has neither lock nor MLflow run.
        """
        self._catalog = catalog
        # If a hook fails before the first node, Kedro does not call `on_pipeline_error`.
        self._release()
        task = task_of(pipeline)
        if task is None:
            return
        names = "+".join(run_params.get("pipeline_names") or ["__default__"])
        folder = self.task_folder(task)
        lock = RunLock(folder / "run.lock", task)
        lock.acquire(names)
        self._lock = lock
        for stage in folder.parents[1].glob(f"*/{task}"):
            remove_leftovers(stage)
        sources = f"params:{task}.sources"
        phantom = sources in catalog and bool(catalog.load(sources).phantom)
        run_id = runs.start_run(
            aliases.model_name(task, phantom=phantom),
            name=self._run_name(self.cell.get("name") or names, task, pipeline),
            folder=_folder_id(folder),
            artifacts=self._config_loader["globals"]["artifacts"],
            parent=self.cell.get("parent_run"),
            tags={**self._tags(run_params, names), "task": task, "images": "phantom" if phantom else "real"},
        )
        if CURRENT_RUN in pipeline.inputs():
            catalog[CURRENT_RUN] = MemoryDataset(self._task_run(run_params, task, run_id), copy_mode="assign")

    def _run_name(self, name: str, task: str, pipeline: Pipeline) -> str:
        """Return, for example, ``effusion densenet121 224px 2026-11-30T20:13Z``; scoring has no network."""
        network = ""
        if {f"params:{task}.model", CURRENT_RUN} & pipeline.inputs():
            parameters = self._config_loader["parameters"][task]
            network = f" {parameters['model']['name']} {parameters['resolution']['size']}px"
        return f"{name}{network} {datetime.now(UTC):%Y-%m-%dT%H:%MZ}"

    def _tags(self, run_params: dict[str, Any], names: str) -> dict[str, str]:
        """Return the tags that say what was run; no command reproduces the cell of an experiment on its own."""
        if self.cell:
            return {runs.PIPELINE: names, runs.CELL: self.cell.get("name", names)}
        return {runs.PIPELINE: names, "kedro_command": command_line(run_params)}

    def _task_run(self, run_params: dict[str, Any], task: str, run_id: str) -> TaskRun:
        return TaskRun(
            task=task,
            project=str(run_params["project_path"]),
            cwd=str(Path.cwd()),
            conf_source=str(Path(self._config_loader.conf_source).absolute()),
            env=run_params["env"],
            runtime_params=run_params["runtime_params"] or {},
            parameters=self._config_loader["parameters"][task],
            tracking_uri=self._config_loader["globals"]["tracking_uri"],
            run_id=run_id,
        )

    @hook_impl
    def before_node_run(self, node: Node, inputs: dict[str, Any]) -> None:
        """Log a node's parameters by dotted name, without the task's name: ``training.epochs``."""
        prefix = f"params:{task_of_node(node)}."
        blocks = parameter_blocks(inputs).items()
        named = {name.removeprefix(prefix).removeprefix("params:"): block for name, block in blocks}
        flat = flatten(hide_passwords(named))
        runs.log_params({_REFUSED.sub("_", name)[:_LONGEST_KEY]: value for name, value in flat.items()})

    @hook_impl
    def after_dataset_saved(self, dataset_name: str) -> None:
        """Log a saved file or folder if its catalog entry has ``metadata: {mlflow: artifact}``."""
        dataset: Any = self._catalog[dataset_name]
        if (getattr(dataset, "metadata", None) or {}).get("mlflow") == "artifact":
            runs.log_artifact(Path(dataset._describe()["filepath"]))

    @hook_impl
    def after_pipeline_run(self) -> None:
        """End the MLflow run and release the lock."""
        runs.end_active_run("FINISHED")
        self._release()

    @hook_impl
    def on_pipeline_error(self, error: BaseException) -> None:
        """End the MLflow run, ``FAILED`` after an error or ``KILLED`` after a signal, and release the lock."""
        runs.end_active_run("FAILED" if stop_behind(error) is None else "KILLED")
        self._release()

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()
        self._lock = None


def _folder_id(folder: Path) -> str:
    """Return an id of the data folder of a task, which a copy of the folder does not share."""
    path = folder / "folder_id"
    if not path.exists():
        with written_atomically(path) as temporary:
            temporary.write_text(uuid4().hex)
    # Whatever a damaged file contains is an id, too.
    return json_digest([path.read_text("utf-8", errors="replace"), str(folder.resolve())])
