"""The pictures of a report, as PNG bytes.

In all of them ``y_true`` [n] is 1.0, 0.0 or NaN (unknown, left out), ``probability`` [n] is that of the positive
class in [0, 1], a film is called positive when ``probability >= threshold``, ``classes`` names the negative and then
the positive class, and a metric is a dict of ``value``, ``low`` and ``high``, None or NaN where not defined.
"""

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from cxr_pipeline.metrics import equal_mass_bins, known_films
from cxr_pipeline.report.style import BLUE, GREY, ORANGE, png, sheet, words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Metric = Mapping[str, float | None]


def draw_scores(
    y_true: ArrayLike,
    probability: ArrayLike,
    threshold: float,
    *,
    classes: Sequence[str],
    metrics: Mapping[str, Metric],
) -> dict[str, bytes]:
    """The five figures that the scores of the test films make, as PNG by the name that the report knows.

    Of ``metrics`` only ``auc`` and ``average_precision`` are read.
    """
    return {
        "roc": roc(y_true, probability, threshold, auc=metrics["auc"]),
        "precision_recall": precision_recall(
            y_true, probability, threshold, average_precision=metrics["average_precision"]
        ),
        "reliability": reliability(y_true, probability),
        "score_histogram": score_histogram(y_true, probability, threshold, classes=classes),
        "confusion": confusion(y_true, probability, threshold, classes=classes),
    }


def roc(y_true: ArrayLike, probability: ArrayLike, threshold: float, *, auc: Metric) -> bytes:
    """Sensitivity over 1 - specificity, with the point where the threshold lies."""
    from sklearn.metrics import roc_curve

    positive, scores = known_films(y_true, probability)
    if positive.all() or not positive.any():
        return words("No ROC curve: it needs films of both classes.")
    false_alarms, found, _ = roc_curve(positive, scores, drop_intermediate=False)
    called = scores >= threshold
    with sheet(height=4.6) as figure:
        axes = figure.subplots()
        axes.plot(false_alarms, found, color=BLUE, label=_with_interval("AUC", auc))
        axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1.5, label="guessing")
        _mark(axes, called[~positive].mean(), called[positive].mean(), threshold)
        _fill_unit_square(axes, x_label="1 - specificity", y_label="sensitivity", legend="lower right")
        return png(figure)


def precision_recall(
    y_true: ArrayLike, probability: ArrayLike, threshold: float, *, average_precision: Metric
) -> bytes:
    """Precision over sensitivity, with the share of positive films, which is what guessing reaches."""
    from sklearn.metrics import precision_recall_curve

    positive, scores = known_films(y_true, probability)
    if positive.all() or not positive.any():
        return words("No precision-recall curve: it needs films of both classes.")
    precision, found, _ = precision_recall_curve(positive, scores)
    called = scores >= threshold
    with sheet(height=4.6) as figure:
        axes = figure.subplots()
        label = _with_interval("average precision", average_precision)
        axes.plot(found, precision, color=BLUE, drawstyle="steps-pre", label=label)
        axes.axhline(positive.mean(), color=GREY, linestyle=":", linewidth=1.5, label="guessing")
        if called.any():
            _mark(axes, called[positive].mean(), positive[called].mean(), threshold)
        _fill_unit_square(axes, x_label="sensitivity", y_label="precision", legend="lower left")
        return png(figure)


def reliability(y_true: ArrayLike, probability: ArrayLike) -> bytes:
    """Share of positive films over the probability given, in bins of equal mass, above its histogram."""
    bins = reliability_bins(y_true, probability)
    if bins.empty:
        return words("No reliability plot: no film has a known label.")
    sizes = " to ".join(str(size) for size in sorted({bins["n"].min(), bins["n"].max()}))
    label = f"test films, {len(bins)} bins of {sizes}"
    reach = np.clip([bins["observed"] - bins["low"], bins["high"] - bins["observed"]], 0, 1)
    with sheet(height=5.6) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        upper.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1.5, label="perfect")
        upper.errorbar(bins["probability"], bins["observed"], reach, fmt="o-", color=BLUE, elinewidth=1.2, label=label)
        upper.set(ylim=(-0.02, 1.02), ylabel="share of positive films")
        upper.legend(loc="upper left")
        _count(lower, known_films(y_true, probability)[1], color=BLUE)
        lower.set_xlabel("probability given")
        return png(figure)


def reliability_bins(y_true: ArrayLike, probability: ArrayLike) -> pd.DataFrame:
    """What lies in each of the ten bins of equal mass on which the expected calibration error rests.

    Returns:
        A row for each bin that holds a film: ``n`` films, their mean ``probability``, the ``observed`` share of
        positive films, and ``low`` and ``high`` of its 95 % interval (Wilson, 1927).
    """
    from scipy.stats import binomtest

    positive, scores = known_films(y_true, probability)
    films = pd.DataFrame({"positive": positive, "probability": scores})
    bins = films.groupby(equal_mass_bins(scores)).agg(
        n=("positive", "size"), probability=("probability", "mean"), observed=("positive", "mean")
    )
    tests = [binomtest(round(n * share), int(n)) for n, share in zip(bins["n"], bins["observed"], strict=True)]
    limits = [test.proportion_ci(method="wilson") for test in tests]
    return bins.assign(low=[limit.low for limit in limits], high=[limit.high for limit in limits])


def score_histogram(y_true: ArrayLike, probability: ArrayLike, threshold: float, *, classes: Sequence[str]) -> bytes:
    """How many films of each class got which probability, with the threshold across both."""
    positive, scores = known_films(y_true, probability)
    negative_class, positive_class = classes
    with sheet(height=4.4) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True)
        for axes, name, members, color in (
            (upper, positive_class, positive, ORANGE),
            (lower, negative_class, ~positive, BLUE),
        ):
            _count(axes, scores[members], color=color)
            axes.axvline(threshold, color="black", linestyle="--", linewidth=1.5, label=f"threshold {threshold:.3f}")
            axes.set_title(f"{name} (n = {members.sum()})", loc="left")
        upper.legend(loc="best")
        lower.set_xlabel(f"probability of {positive_class}")
        return png(figure)


def confusion(y_true: ArrayLike, probability: ArrayLike, threshold: float, *, classes: Sequence[str]) -> bytes:
    """Films by true class (rows) and decision (columns): counts, and their share of the row in per cent."""
    from sklearn.metrics import confusion_matrix

    positive, scores = known_films(y_true, probability)
    if not len(positive):
        return words("No confusion matrix: no film has a known label.")
    counts = confusion_matrix(positive, scores >= threshold, labels=[False, True])
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    with sheet(height=4.2) as figure:
        axes = figure.subplots()
        axes.grid(visible=False)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1.2)
        for (row, column), count in np.ndenumerate(counts):
            color = "white" if shares[row, column] > 0.7 else "black"
            text = f"{count}\n{100 * shares[row, column]:.1f} %" if counts[row].any() else "no films"
            axes.text(column, row, text, ha="center", va="center", color=color, fontsize=14)
        axes.set_xticks([0, 1], classes)
        axes.set_yticks([0, 1], classes, rotation=90, va="center")
        axes.set(xlabel="decision", ylabel="true class")
        return png(figure)


def training_curves(history: pd.DataFrame, *, kept: int) -> bytes:
    """Losses and validation AUC over the epochs, with the phases and the epoch that was kept.

    Args:
        history: a row per epoch: ``phase``, ``epoch`` (from 1 on), ``loss``, ``val_loss``, ``val_auc``.
        kept: the epoch whose weights were kept.
    """
    from matplotlib.ticker import MaxNLocator

    with sheet(height=5.4) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True)
        for axes, column, fmt, color, label in (
            (upper, "loss", "o-", BLUE, "training"),
            (upper, "val_loss", "s--", ORANGE, "validation"),
            (lower, "val_auc", "s--", ORANGE, None),
        ):
            axes.plot(history["epoch"], history[column], fmt, markersize=4, color=color, label=label)
        _shade_phases(history, upper, lower)
        upper.axvline(kept, color="black", linestyle=":", linewidth=1.5)
        lower.axvline(kept, color="black", linestyle=":", linewidth=1.5, label=f"kept: epoch {kept}")
        lower.legend(loc="best")
        upper.legend(loc="best")
        upper.set(ylabel="loss")
        lower.set(ylabel="validation AUC", xlabel="epoch")
        lower.set_xlim(history["epoch"].min() - 0.6, history["epoch"].max() + 0.6)
        lower.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        return png(figure)


def rank_mistakes(
    y_true: ArrayLike, probability: ArrayLike, threshold: float, *, classes: Sequence[str], limit: int = 9
) -> pd.DataFrame:
    """The films decided wrongly and farthest from the threshold, worst first.

    The distance is a share of the way from the threshold to the end of the scale on the film's side, so that a
    threshold far from the middle hides neither kind of mistake.

    Returns:
        At most ``limit`` rows: ``position`` of the film in ``y_true``, and its ``caption``.
    """
    labels, scores = np.asarray(y_true, dtype=float), np.asarray(probability, dtype=float)
    called = scores >= threshold
    wrong = np.flatnonzero(~np.isnan(labels) & (called != (labels == 1)))
    room = np.where(called, 1 - threshold, threshold)
    distance = np.abs(scores - threshold) / np.maximum(room, np.finfo(float).tiny)
    worst = wrong[np.argsort(-distance[wrong], kind="stable")][:limit]
    captions = [
        f"{classes[int(labels[film])]} called {classes[int(called[film])]}, {scores[film]:.3f}" for film in worst
    ]
    return pd.DataFrame({"position": worst, "caption": pd.Series(captions, dtype="string")})


def mistakes(films: NDArray[np.uint8], captions: Sequence[str]) -> bytes:
    """Films in rows of three, each above its caption.

    Args:
        films: grey films [n, S, S].
        captions: one for each film; long ones are wrapped.
    """
    if not len(films):
        return words("No test film was decided wrongly.")
    n_rows = -(-len(films) // 3)
    with sheet(height=2.05 * n_rows) as figure:
        panels = figure.subplots(n_rows, 3, squeeze=False, subplot_kw={"frame_on": False, "xticks": [], "yticks": []})
        for place, (film, caption) in enumerate(zip(films, captions, strict=True)):
            axes = panels.flat[place]
            axes.imshow(film, cmap="gray", vmin=0, vmax=255)
            axes.set_xlabel(textwrap.fill(caption, 22, max_lines=3), fontsize=9)
        return png(figure)


def augmentation_preview(films: NDArray[np.uint8]) -> bytes:
    """Each row one film: the original, then views as they are shown in training.

    Args:
        films: grey films [n, views, S, S], the original first.
    """
    n_films, n_views = films.shape[:2]
    if not films.size:
        return words("No film was augmented.")
    with sheet(height=0.3 + 4.4 * n_films / n_views) as figure:
        panels = figure.subplots(n_films, n_views, squeeze=False)
        for (row, view), axes in np.ndenumerate(panels):
            axes.set_axis_off()
            axes.imshow(films[row, view], cmap="gray", vmin=0, vmax=255)
            if row == 0:
                axes.set_title("original" if view == 0 else f"view {view}", fontsize=9)
        return png(figure)


def _with_interval(name: str, metric: Metric) -> str:
    value, low, high = np.array([metric[key] for key in ("value", "low", "high")], dtype=float)
    bounds = "" if np.isnan([low, high]).any() else f"\n({low:.3f} to {high:.3f})"
    return f"{name} {value:.3f}{bounds}"


def _mark(axes: "Axes", x: float, y: float, threshold: float) -> None:
    axes.plot(x, y, "o", color=ORANGE, markersize=9, zorder=3, label=f"threshold {threshold:.3f}")


def _fill_unit_square(axes: "Axes", *, x_label: str, y_label: str, legend: str) -> None:
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel=x_label, ylabel=y_label, aspect="equal")
    axes.legend(loc=legend)


def _count(axes: "Axes", scores: NDArray[np.float64], *, color: str) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.hist(scores, bins=30, range=(0, 1), color=color)
    axes.set(xlim=(-0.02, 1.02), ylabel="films")
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))


def _shade_phases(history: pd.DataFrame, upper: "Axes", lower: "Axes") -> None:
    for number, (phase, rows) in enumerate(history.groupby("phase", sort=False)):
        start = rows["epoch"].min() - 0.5
        for axes in (upper, lower):
            axes.axvspan(start, rows["epoch"].max() + 0.5, color=GREY, alpha=0.06 + 0.1 * (number % 2), linewidth=0)
        upper.annotate(
            str(phase).replace("_", " "), (start, 1), xycoords=("data", "axes fraction"), xytext=(2, 4),
            textcoords="offset points", fontsize=10, color=GREY,
        )  # fmt: skip
