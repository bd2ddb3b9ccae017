"""A summary at the end of a run."""

from pathlib import Path
from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cxr_pipeline.framework.hooks.runs import task_of
from cxr_pipeline.report.pages.leaderboard import name_the_first


class Summary:
    """Prints the most important figures at the end of a run."""

    @hook_impl(trylast=True)
    def after_pipeline_run(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Print a small table if the run registered a model version, a few lines if it compared models."""
        if "leaderboard_page" in pipeline.outputs():
            page = catalog["leaderboard_page"]._describe()["filepath"]
            lines = [*name_the_first(catalog.load("leaderboard")), f"leaderboard: {page}"]
            Console().print(Text("\n".join(lines), overflow="fold"))
        task = task_of(pipeline)
        if task is None or f"{task}.model_version" not in pipeline.outputs():
            return
        metrics, version = catalog.load(f"{task}.metrics"), catalog.load(f"{task}.model_version")
        report = catalog[f"{task}.report"]._describe()["filepath"]
        Console().print(_summary(metrics, version, Path(report)))


def _summary(metrics: dict[str, Any], version: dict[str, Any], report: Path) -> Table:
    images = "phantom images: generated, no evidence about patients" if metrics["phantom"] else "test images"
    table = Table(title=f"{metrics['task']} ({metrics['n_images']} {images})", show_header=False, title_justify="left")
    mean = "mean " if len(metrics["thresholds"]) > 1 else ""
    for label, name in (("AUC", "auc"), ("sensitivity", "sensitivity"), ("specificity", "specificity")):
        table.add_row(f"{mean}{label}", _with_interval(**metrics["metrics"][name]))
    if "majority" in metrics:
        table.add_row("accuracy", _with_interval(**metrics["metrics"]["accuracy"]))
        always = metrics["majority"]
        table.add_row(f"always predicting {always['class']}", _with_interval(always["accuracy"], None, None))
    if not mean:
        table.add_row("threshold", ", ".join(f"{name} {value:.3f}" for name, value in metrics["thresholds"].items()))
    table.add_row("report", Text(str(report), overflow="fold"))
    table.add_row("model version", f"{version['name']} {version['version']}")
    return table


def _with_interval(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return "undefined"
    if low is None or high is None:
        return f"{value:.3f}"
    return f"{value:.3f} ({low:.3f} to {high:.3f})"
