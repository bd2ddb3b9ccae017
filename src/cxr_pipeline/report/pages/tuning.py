"""The page of a hyperparameter search and its figures: the trials, and the values and importance of parameters.

``study`` is the content of ``tuning_study.json``, ``trials`` is a ``trial_table``.
"""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from cxr_pipeline.report.figures import style
from cxr_pipeline.report.figures.style import BLUE, GREY, INCHES_DENSE, LIGHT, ORANGE, Axes
from cxr_pipeline.report.formatting import Document, as_yaml, number, words
from cxr_pipeline.report.page import RESEARCH, Page, Section, Table, Verdict

PANELS_WIDE = 3
WARNINGS = (
    "The best value is optimistic: it is the maximum over {n_complete:,} trials on the same validation images, and "
    "over the epochs of each. A run with the best parameters measures performance on the test images.",
    "The search did not use the test images.",
    "Trials with similar values cannot be ranked: another seed or other validation images may reverse their order.",
)
TO_USE = (
    "best_parameters.yml, next to this page, has the best parameters. To train, test and register a model with them, "
    "run kedro run --config with the path of that file."
)


def render_tuning(
    study: Document,
    trials: pd.DataFrame,
    figures: Mapping[str, bytes],
    *,
    task: str,
    title: str,
    before: Document,
    versions: Mapping[str, str],
) -> str:
    """Render the page as HTML; ``before`` has the value of each parameter without the search, by dotted name."""
    facts = {"name": study["name"], "direction": study["direction"], "data digest": study["data_digest"]}
    provenance = Table.of_pairs({**facts, **versions}, style="code")
    reasons = trials.loc[trials["state"] == "failed", ["number", "reason"]]
    failed = Table(("trial", "reason"), reasons.to_numpy().tolist(), "long")
    n_complete = int((trials["state"] == "complete").sum())
    sections = [
        Section("Best parameters", [_best_parameters(study, before), TO_USE], anchor="best"),
        Section.warnings([warning.format(n_complete=n_complete) for warning in WARNINGS]),
        Section("Figures", [figures], anchor="figures"),
        Section(
            "Trials",
            [trial_rows(study, trials), Section("Failed trials", [failed])],
            "Complete trials first, in order of their value. The value of a pruned trial is that of its last epoch.",
            anchor="trials",
        ),
        Section("Study", [Section("Data and software", [provenance], style="folded")], anchor="study"),
    ]
    intro = f"Hyperparameter search for the task “{task}”. {RESEARCH}"
    return Page(f"{title}: tuning", _verdict(study, trials), sections, study["phantom"], [intro]).html()


def _verdict(study: Document, trials: pd.DataFrame) -> Verdict:
    """Say which trial is best, with its value."""
    complete, pruned, failed = (int((trials["state"] == state).sum()) for state in ("complete", "pruned", "failed"))
    best, monitor = study["best"], words(study["monitor"])
    return Verdict(
        f"Trial {best['number']} of {complete + pruned:,} is the best, with a {monitor} of {number(best['value'])}.",
        {f"best {monitor}": number(best["value"])},
        {
            "Trials": f"{complete:,} complete, {pruned:,} pruned" + f", {failed:,} failed" * bool(failed),
            "Parameters varied": f"{len(study['space'])}",
            "Scored on": "the validation images",
        },
    )


def _best_parameters(study: Document, before: Document) -> Table:
    best, importance = study["best"]["parameters"], study["importance"]
    rows = [
        (name, as_yaml(best[name]), as_yaml(before.get(name)), _range_in_words(axis), importance.get(name, ""))
        for name, axis in study["space"].items()
    ]
    return Table(("parameter", "best", "before", "searched", "importance"), rows, "code")


def _range_in_words(axis: Document) -> str:
    if "choices" in axis:
        return ", ".join(map(as_yaml, axis["choices"]))
    step = f", step {as_yaml(axis['step'])}" if "step" in axis else ""
    return f"{as_yaml(axis['low'])} to {as_yaml(axis['high'])}{', log' if axis.get('log') else ''}{step}"


def trial_rows(study: Document, trials: pd.DataFrame) -> Table:
    """List finished trials: complete ones first, by value."""
    finished = trials[trials["state"] != "failed"]
    minimize, space = study["direction"] == "minimize", study["space"]
    ordered = finished.sort_values(["state", "value", "number"], ascending=[True, minimize, True])
    rows = []
    for row in ordered.to_dict("records"):
        parameters = [as_yaml(_as_searched(row[name], axis)) for name, axis in space.items()]
        rows.append((row["number"], row["state"], row["value"], *parameters, row["epochs"], round(row["seconds"])))
    return Table(("trial", "state", words(study["monitor"]), *space, "epochs", "seconds"), rows, "code")


def _as_searched(value: Any, axis: Document) -> Any:
    """Return the value of a trial as its search range has it, although a CSV file may have made 4 of 4.0 or of "4"."""
    if "choices" in axis:
        return min(axis["choices"], key=lambda choice: (as_yaml(choice) != as_yaml(value), _distance(choice, value)))
    return int(value) if isinstance(axis["low"], int) else value


def _distance(choice: Any, value: Any) -> float:
    try:
        return abs(float(choice) - float(value))
    except (TypeError, ValueError):
        return math.inf


def draw_tuning(trials: pd.DataFrame, study: Document) -> dict[str, bytes]:
    """Draw the figures, PNG bytes by name."""
    label, minimize = words(study["monitor"]), study["direction"] == "minimize"
    return {
        "tuning_history": draw_history(trials, label=label, minimize=minimize),
        "tuning_importance": draw_importance(study["importance"]),
        "tuning_slices": draw_slices(trials, study["space"], label=label, minimize=minimize),
    }


def draw_history(trials: pd.DataFrame, *, label: str, minimize: bool) -> bytes:
    """Draw the value of each trial in their order, and the best so far."""
    complete, pruned = (trials[trials["state"] == state] for state in ("complete", "pruned"))
    if complete.empty:
        return style.message("No history: no trial was completed.")
    best = complete["value"].cummin() if minimize else complete["value"].cummax()
    last = trials["number"].max()
    with style.sheet(height=4.4) as figure:
        axes = figure.subplots()
        axes.step([*complete["number"], last], [*best, best.iloc[-1]], where="post", color=ORANGE, label="best so far")
        for name, rows, color, fill in (("complete", complete, BLUE, "full"), ("pruned", pruned, GREY, "none")):
            if len(rows):
                text = f"{name} ({len(rows)})"
                axes.plot(rows["number"], rows["value"], "o", color=color, markersize=5, fillstyle=fill, label=text)
        for number, failed in enumerate(trials.loc[trials["state"] == "failed", "number"]):
            axes.axvline(failed, color=LIGHT, linewidth=4, zorder=0, label=None if number else "failed")
        axes.set(xlabel="trial", ylabel=label)
        style.integer_axis(axes)
        figure.legend(loc="outside upper center", ncols=2)
        return style.png(figure)


def draw_importance(shares: Mapping[str, float]) -> bytes:
    """Draw the share of the variance that each parameter explains, as bars."""
    if not shares:
        return style.message("No importance: it needs two complete trials with different parameters and values.")
    names = list(shares)[::-1]
    with style.sheet(height=1.2 + 0.38 * len(names)) as figure:
        axes = figure.subplots()
        bars = axes.barh(names, [shares[name] for name in names], color=BLUE, height=0.6)
        axes.bar_label(bars, fmt="{:.2f}", padding=3, fontsize=10)
        axes.grid(visible=False, axis="y")
        axes.set(xlabel="share of the variance", xlim=(0, 1.1 * max(shares.values()) or 1))
        return style.png(figure)


def draw_slices(trials: pd.DataFrame, space: Document, *, label: str, minimize: bool) -> bytes:
    """Draw the value of each complete trial over each parameter, later trials darker, the best one circled."""
    complete = trials[trials["state"] == "complete"]
    if complete.empty:
        return style.message("No values: no trial was completed.")
    best = int(complete["value"].argmin() if minimize else complete["value"].argmax())
    n_wide = min(PANELS_WIDE, len(space))
    with style.sheet(height=0.5 + 2.4 * math.ceil(len(space) / n_wide), width=INCHES_DENSE) as figure:
        grid = style.panels(figure, len(space), n_wide, sharey=True)
        for axes, (name, axis) in zip(grid, space.items(), strict=True):
            places = _places(axes, complete[name], axis)
            axes.scatter(places, complete["value"], c=complete["number"], cmap="Blues", vmin=-0.5 * len(trials),
                         s=28, edgecolors=GREY, linewidths=0.5)  # fmt: skip
            axes.plot(places.iloc[best], complete["value"].iloc[best], "o", color=ORANGE, ms=11, fillstyle="none")
            axes.set_xlabel(name, fontsize=9)
        figure.supylabel(label, fontsize=11)
        return style.png(figure)


def _places(axes: Axes, values: "pd.Series[Any]", axis: Document) -> "pd.Series[Any]":
    """Prepare the x axis of a parameter and return the places of values on it."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.margins(x=0.08)
    axes.tick_params(labelsize=9)
    if "choices" in axis:
        names = [as_yaml(choice) for choice in axis["choices"]]
        axes.set_xticks(range(len(names)), names, fontsize=8, rotation=25, ha="right", rotation_mode="anchor")
        axes.set_xlim(-0.6, len(names) - 0.4)
        return values.map(lambda value: names.index(as_yaml(_as_searched(value, axis))))
    if axis.get("log"):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(numticks=4))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
    return values.astype(float)
