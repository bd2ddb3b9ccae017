"""A serialisable description of a run of a task's pipeline, and the files that the run writes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from cxr_pipeline.common.files import explain_damage
from cxr_pipeline.common.mappings import lay_over

# Catalog name of the `TaskRun` that a node is part of.
CURRENT_RUN = "current_run"
# Module that executes a `TaskRun` in its own process.
MODULE = "cxr_pipeline.framework.processes.cell"
# Files that a child run reads from the data folder of its parent, so that sources are read once and no patient changes
# split.
SHARED_INPUTS = ("images", "refused_rows", "source_counts", "earlier_splits")
# Files that a run writes, by catalog name; the report is the last one.
OUTPUT_FILES = {
    "manifest": "03_primary/manifest.parquet",
    "splits": "05_model_input/splits.parquet",
    "model_version": "06_models/model_version.json",
    "test_scores": "07_model_output/test_scores.parquet",
    "history": "08_reporting/history.csv",
    "metrics": "08_reporting/metrics.json",
    "warnings": "08_reporting/warnings.json",
    "report": "08_reporting/report.html",
}
# Blocks of a task that describe experiments; the task's own pipeline does not read them.
EXPERIMENT_BLOCKS = ("tuning", "ablation", "sanity", "parallel", "retraining")


@dataclass(frozen=True, kw_only=True)
class TaskRun:
    """A run of a task's pipeline, with everything that ``kedro run`` needs on any machine with the same folders.

    Args:
        cwd: working directory, where relative paths start.
        env: Kedro environment; None for the default.
        runtime_params: the values given as ``--params``, nested.
        parameters: all resulting parameters of the task, nested.
        run_id: id of the MLflow run, or of the parent's run for a child; None without tracking.
        to_output: last dataset to compute, a catalog name without the task.
    """

    task: str
    project: str
    cwd: str
    conf_source: str
    env: str | None
    runtime_params: Mapping[str, Any]
    parameters: Mapping[str, Any]
    tracking_uri: str
    run_id: str | None
    to_output: str = "report"

    @property
    def is_cell(self) -> bool:
        """Whether another run started this one."""
        return "cell" in self.runtime_params

    @property
    def member(self) -> int | None:
        """The network of an ensemble that this run trains, from 1; None for all."""
        member: int | None = self.runtime_params.get("cell", {}).get("member")
        return member

    def child(
        self,
        name: str,
        *,
        folder: Path,
        to_output: str,
        overrides: Mapping[str, Any] | None = None,
        member: int | None = None,
    ) -> TaskRun:
        """Return a run of the same task with its own MLflow run, its outputs in a folder laid out as ``data/``.

        ``overrides`` are parameters that differ, nested below the task's block; ``member`` is the only network of an
        ensemble that the run trains.
        """
        changes = overrides or {}
        cell: dict[str, Any] = {"name": name, "folder": str(folder), "parent_run": self.run_id}
        if member is not None:
            cell["member"] = member
        return replace(
            self,
            runtime_params=lay_over(self.runtime_params, {self.task: changes, "cell": cell}),
            parameters=lay_over(self.parameters, changes),
            to_output=to_output,
        )

    def config_file(self, overrides: Mapping[str, Any], *, origin: str) -> str:
        """Write this run as a YAML file for ``kedro run --config``, with overrides below the task's block.

        The ``origin`` of the parameters becomes a comment. ``splitting.renew`` is for one run only and left out.
        """
        block = {name: v for name, v in self.runtime_params.get(self.task, {}).items() if name not in EXPERIMENT_BLOCKS}
        if "splitting" in block:
            block["splitting"] = {name: value for name, value in block["splitting"].items() if name != "renew"}
        section: dict[str, Any] = {"pipelines": self.task}
        if self.env:
            section["env"] = self.env
        if Path(self.conf_source) != Path(self.project, "conf"):
            section["conf_source"] = self.conf_source
        section["params"] = {**self.runtime_params, self.task: lay_over(block, overrides)}
        head = f"# {' '.join(origin.split())}\n# Use it with: kedro run --config <this file>\n"
        return head + yaml.safe_dump({"run": section}, sort_keys=False, allow_unicode=True)


@dataclass(frozen=True)
class RunOutputs:
    """The files that a run of a task's pipeline wrote to a folder, laid out as ``data/``."""

    folder: Path
    task: str

    def path(self, name: str) -> Path:
        """Return the file of a dataset, given by its catalog name without the task."""
        layer, file = OUTPUT_FILES[name].split("/")
        return self.folder / layer / self.task / file

    def load(self, name: str) -> Any:
        """Read the file of a dataset, a table or a document; `UserError` if it is missing or damaged."""
        path = self.path(name)
        with explain_damage(path, f"Delete {self.folder} and run the same command again: it trains this model again."):
            if path.suffix == ".json":
                return json.loads(path.read_text("utf-8"))
            return pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
