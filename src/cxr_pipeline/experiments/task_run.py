"""A serialisable description of a run of a task's pipeline, and the files that the run writes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from cxr_pipeline.common.files import explain_damage
from cxr_pipeline.common.mappings import lay_over
from cxr_pipeline.data.splits import select_split

# Catalog name of the `TaskRun` that a node is part of.
CURRENT_RUN = "current_run"
# Module that executes a `TaskRun` in its own process.
MODULE = "cxr_pipeline.framework.processes.cell"
# Files that a child run reads from the data folder of its parent, so that sources are read once and no patient changes
# split.
SHARED_INPUTS = ("images", "refused_rows", "source_counts", "earlier_splits")
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
        tracking_uri: address of MLflow.
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

    def child(self, name: str, *, folder: Path, to_output: str, overrides: Mapping[str, Any] | None = None) -> TaskRun:
        """Return a run of the same task with its own MLflow run, its outputs in a folder laid out as ``data/``.

        ``overrides`` are parameters that differ, nested below the task's block.
        """
        changes = overrides or {}
        cell = {"name": name, "folder": str(folder), "parent_run": self.run_id}
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

    @property
    def version(self) -> dict[str, Any]:
        """The registered version, as ``tracking.register_version`` returns it."""
        return self._json("06_models", "model_version.json")

    @property
    def report(self) -> Path:
        """The report, which is written last."""
        return self._path("08_reporting", "report.html")

    @property
    def warnings(self) -> list[str]:
        """The warnings about the version."""
        with self._file("08_reporting", "warnings.json") as path:
            return list(json.loads(path.read_text("utf-8")))

    @property
    def metrics(self) -> dict[str, Any]:
        """Content of ``metrics.json``."""
        return self._json("08_reporting", "metrics.json")

    @property
    def history(self) -> pd.DataFrame:
        """The training history, one row per epoch."""
        return self._table("08_reporting", "history.csv")

    @property
    def splits(self) -> pd.DataFrame:
        """The split of each image."""
        return self._table("05_model_input", "splits.parquet")

    @property
    def test_scores(self) -> pd.DataFrame:
        """The score table of the test images, with decisions."""
        return self._table("07_model_output", "test_scores.parquet")

    @property
    def test_images(self) -> pd.DataFrame:
        """The manifest rows of the test images."""
        return select_split(self._table("03_primary", "manifest.parquet"), self.splits, "test")

    def _json(self, layer: str, file: str) -> dict[str, Any]:
        with self._file(layer, file) as path:
            return dict(json.loads(path.read_text("utf-8")))

    def _table(self, layer: str, file: str) -> pd.DataFrame:
        with self._file(layer, file) as path:
            return pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)

    @contextmanager
    def _file(self, layer: str, file: str) -> Iterator[Path]:
        path = self._path(layer, file)
        with explain_damage(path, f"Delete {self.folder} and run the same command again: it trains this model again."):
            yield path

    def _path(self, layer: str, file: str) -> Path:
        return self.folder / layer / self.task / file
