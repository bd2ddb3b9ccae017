"""The figure of a learning curve: the AUC of each training, the fitted law and its predictions."""

import numpy as np
import pandas as pd

from cxr_pipeline.report.figures import style
from cxr_pipeline.report.figures.style import BLUE, GREY, ORANGE
from cxr_pipeline.report.formatting import Document


def draw_learning_curve(curve: pd.DataFrame, report: Document) -> bytes:
    """Draw a learning curve and its predictions, from ``learning_curve.csv`` and ``learning_curve.json``.

    A fit that cannot be trusted is not drawn.
    """
    from matplotlib.ticker import LogFormatter

    images = " on phantom images, without evidence about patients" if report["phantom"] else ""
    with style.sheet(height=4.6, width=9.0) as figure:
        axes = figure.subplots()
        axes.set_title(f"Learning curve of {report['task']}{images}", loc="left")
        for number, (_, rows) in enumerate(curve.groupby("draw")):
            label = "training on a subset" if number == 0 else None
            axes.plot(rows["n_images"], rows["auc"], "o-", color=GREY, markersize=3, linewidth=0.6, label=label)
        means = curve.groupby("size")[["n_images", "auc"]].mean()
        axes.plot(means["n_images"], means["auc"], "o", color=BLUE, label="mean")
        if not report["doubts"]:
            law, predictions = report["law"], pd.DataFrame(report["predictions"])
            n = np.geomspace(means["n_images"].min(), predictions["n_images"].max(), 200)
            axes.plot(n, law["a"] - law["b"] * n ** -law["c"], "--", color=BLUE, label="inverse power law")
            errors = [predictions["auc"] - predictions["low"], predictions["high"] - predictions["auc"]]
            axes.errorbar(
                predictions["n_images"], predictions["auc"], errors, fmt="s", color=ORANGE, label="prediction"
            )
        axes.set_xscale("log")
        for axis_formatter in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
            axis_formatter(LogFormatter(labelOnlyBase=False, minor_thresholds=(2, 0.5)))
        axes.set(xlabel="training images", ylabel="AUC")
        axes.legend(loc="lower right")
        return style.png(figure)
