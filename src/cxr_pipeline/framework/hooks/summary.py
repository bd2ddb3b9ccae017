"""The summary printed at the end of a run."""

from pathlib import Path
from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cxr_pipeline.framework.hooks.runs import task_of
from cxr_pipeline.report.formatting import measure, number
from cxr_pipeline.report.kinds import title
from cxr_pipeline.report.pages.leaderboard import first_models


class Summary:
    """Prints the main results at the end of a run."""

    @hook_impl(trylast=True)
    def after_pipeline_run(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Print the metrics and warnings of a registered version, or the first models of a leaderboard."""
        if "leaderboard_page" in pipeline.outputs():
            page = catalog["leaderboard_page"]._describe()["filepath"]
            lines = [*first_models(catalog.load("leaderboard")), f"leaderboard: {page}"]
            Console().print(Text("\n".join(lines), overflow="fold"))
        task = task_of(pipeline)
        if task is None or f"{task}.report" not in pipeline.outputs():
            return
        metrics, version = catalog.load(f"{task}.metrics"), catalog.load(f"{task}.model_version")
        report = catalog[f"{task}.report"]._describe()["filepath"]
        Console().print(_summary(metrics, version, catalog.load(f"{task}.warnings"), Path(report)))


def _summary(metrics: dict[str, Any], version: dict[str, Any], warnings: list[str], report: Path) -> Table:
    images = "phantom images: generated, no evidence about patients" if metrics["phantom"] else "test images"
    table = Table(title=f"{metrics['task']} ({metrics['n_images']} {images})", show_header=False, title_justify="left")
    mean = "mean " if len(metrics["thresholds"]) > 1 else ""
    for name in ("auc", "sensitivity", "specificity"):
        table.add_row(f"{mean}{title(name)}", measure(metrics["metrics"][name]))
    if "majority" in metrics:
        table.add_row("accuracy", measure(metrics["metrics"]["accuracy"]))
        table.add_row(f"always predicting {metrics['majority']['class']}", number(metrics["majority"]["accuracy"]))
    if not mean:
        table.add_row("threshold", ", ".join(f"{name} {value:.3f}" for name, value in metrics["thresholds"].items()))
    for warning in warnings:
        table.add_row("warning", Text(warning))
    table.add_row("report", Text(str(report), overflow="fold"))
    table.add_row("model version", f"{version['name']} {version['version']}")
    return table
