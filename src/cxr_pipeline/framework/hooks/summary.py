"""Completed nodes, and the summary at the end of a run."""

import logging
import shlex
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog
from kedro.pipeline import Node, Pipeline
from rich import get_console
from rich.table import Table
from rich.text import Text

from cxr_pipeline.common.progress import progress_bar
from cxr_pipeline.data.splits import SPLITS
from cxr_pipeline.framework.hooks.runs import task_of
from cxr_pipeline.report.formatting import measure, number, words
from cxr_pipeline.report.pages.leaderboard import first_models

# Files that a user reads after a run, besides pages.
_READ = ("predictions", "sanity_figure", "learning_curve_figure")
_log = logging.getLogger(__name__)


class Summary:
    """Shows the running node, logs completed nodes, and prints the main results and the pages at the end of a run."""

    def __init__(self) -> None:
        self._bar = ExitStack()

    @hook_impl(trylast=True)
    def before_pipeline_run(self, pipeline: Pipeline) -> None:
        """Show a bar of the nodes, once the other hooks allow the run."""
        self._n_nodes, self._n_completed = len(pipeline.nodes), 0
        self._update = self._bar.enter_context(progress_bar("", self._n_nodes, unit="nodes"))

    @hook_impl
    def before_node_run(self, node: Node) -> None:
        """Show the name of the node."""
        self._update(description=node.name.rpartition(".")[2])

    @hook_impl
    def on_pipeline_error(self) -> None:
        """Remove the bar."""
        self._bar.close()

    @hook_impl
    def after_node_run(self, node: Node) -> None:
        """Log that a node is completed."""
        self._n_completed += 1
        self._update(advance=1)
        _log.info("Completed %s (%d of %d)", node.name, self._n_completed, self._n_nodes)

    @hook_impl(trylast=True)
    def after_pipeline_run(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Print the results of a task, the counts of scored images, or the first models of a leaderboard."""
        self._bar.close()
        task, outputs = task_of(pipeline), pipeline.all_outputs()
        lines = []
        if "leaderboard" in outputs:
            lines += first_models(catalog.load("leaderboard"))
        if f"{task}.scoring_record" in outputs:
            lines.append(_counts(catalog.load(f"{task}.scoring_record")))
        prepared = {f"{task}.{name}" for name in ("source_counts", "quarantine", "splits")}
        if prepared <= outputs and f"{task}.report" not in outputs:
            lines.append(_images(task, catalog))
        if f"{task}.report" in outputs:
            metrics, version = catalog.load(f"{task}.metrics"), catalog.load(f"{task}.model_version")
            images = "phantom images: generated, no evidence about patients" if metrics["phantom"] else "test images"
            get_console().print(Text(f"{task} ({metrics['n_images']} {images})"), soft_wrap=True)
            get_console().print(_table(metrics))
            lines += [f"warning: {warning}" for warning in catalog.load(f"{task}.warnings")]
            lines.append(f"model version: {version['name']} {version['version']}")
        if {f"{task}.report", f"{task}.promotion"} <= outputs:
            lines += _decision(catalog.load(f"{task}.promotion"))
        # Paths are not in the table, which would break a long one.
        lines += [f"{name}: {path}" for name, path in _pages(outputs, catalog)]
        lines += _next_steps(task, outputs, catalog)
        for line in lines:
            get_console().print(Text(line), soft_wrap=True)


def _pages(outputs: Iterable[str], catalog: DataCatalog) -> Iterator[tuple[str, Path]]:
    """Yield the name and the path of what a user reads after a run."""
    for output in sorted(outputs):
        path, name = _path(output, catalog), output.rpartition(".")[2]
        if path is not None and (path.suffix == ".html" or name in _READ):
            yield name.removesuffix("_page"), path


def _next_steps(task: str | None, outputs: Iterable[str], catalog: DataCatalog) -> Iterator[str]:
    """Yield the commands that use what a run wrote."""
    from cxr_pipeline.tracking.aliases import task_and_environment

    if f"{task}.report" in outputs:
        env = task_and_environment(catalog.load(f"{task}.model_version")["name"])[1]
        yield f"To predict images: kedro predict {task} IMAGE...{env}"
        yield f"To compare runs and versions: kedro mlflow ui{env}"
    if f"{task}.best_parameters" in outputs:
        path = _path(f"{task}.best_parameters", catalog)
        yield f"To train with the best parameters: kedro run --config {shlex.quote(str(path))}"


def _path(output: str, catalog: DataCatalog) -> Path | None:
    return getattr(catalog.get(output), "_filepath", None)


def _counts(record: Mapping[str, Any]) -> str:
    """Return, for example, ``3 images: 2 scored (ill 2), 1 refused (unreadable 1)``."""

    def count(n: int, kind: str, by_name: Mapping[str, int]) -> str:
        details = ", ".join(f"{name} {number:,}" for name, number in by_name.items() if number)
        return f"{n:,} {kind}" + (f" ({details})" if details else "")

    n_images, n_scored = record["n_images"], record["n_scored"]
    scored = count(n_scored, "scored", record["decisions"])
    refused = count(n_images - n_scored, "refused", record["refused"])
    flagged = count(sum(record["flagged"].values()), "of the scored flagged", record["flagged"])
    return f"{n_images:,} images: {scored}, {refused}" + (f", {flagged}" if record["flagged"] else "")


def _images(task: str | None, catalog: DataCatalog) -> str:
    """Return, for example, ``240 images: 31 not on disk, 9 refused (PATH); train 140, validation 30, test 30``."""
    sources = catalog.load(f"{task}.source_counts").values()
    unused = {
        "not on disk": sum(source["not_on_disk"] for source in sources),
        "left out": sum(sum(source["left_out"].values()) for source in sources),
        f"refused ({_path(f'{task}.quarantine', catalog)})": len(catalog.load(f"{task}.quarantine")),
    }
    parts = ", ".join(f"{count:,} {kind}" for kind, count in unused.items() if count)
    splits = catalog.load(f"{task}.splits")["split"].value_counts()
    counts = ", ".join(f"{split} {splits.get(split, 0):,}" for split in SPLITS)
    return f"{sum(source['rows_in_source'] for source in sources):,} images: {parts or 'all are used'}; {counts}"


def _decision(record: Mapping[str, Any]) -> list[str]:
    """Return whether the version becomes the first champion, and why; nothing if there is a champion."""
    from cxr_pipeline.tracking.aliases import task_and_environment

    if "decision" not in record:
        return []
    version = f"{record['model']} {record['challenger']['version']}"
    if record["promoted"]:
        return [f"champion: {version}. {' '.join(record['reasons'])}"]
    task, env = task_and_environment(record["model"])
    command = f"kedro promote {task} {record['challenger']['version']}{env}"
    return [f"champion: none. {' '.join(record['reasons'])} To make {version} the champion: {command}"]


def _table(metrics: Mapping[str, Any]) -> Table:
    table = Table(show_header=False)
    mean = "mean " if len(metrics["thresholds"]) > 1 else ""
    for name in ("auc", "sensitivity", "specificity"):
        table.add_row(f"{mean}{words(name)}", measure(metrics["metrics"][name]))
    if "majority" in metrics:
        table.add_row("accuracy", measure(metrics["metrics"]["accuracy"]))
        table.add_row(f"always predicting {metrics['majority']['class']}", number(metrics["majority"]["accuracy"]))
    if not mean:
        table.add_row("threshold", ", ".join(f"{name} {value:.3f}" for name, value in metrics["thresholds"].items()))
    return table
