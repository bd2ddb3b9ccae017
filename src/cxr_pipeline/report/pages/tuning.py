"""The page that a study leaves for its reader."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from cxr_pipeline.report.figures.tuning import as_searched, monitor_in_words, shown
from cxr_pipeline.report.pages.page import Picture
from cxr_pipeline.report.rendering import fill, png_uri
from cxr_pipeline.report.words import tables
from cxr_pipeline.report.words.tables import Table
from cxr_pipeline.report.words.text import as_text, listed

FIGURES = {
    "tuning_history": ("How the search went", "Trials in the order in which they were asked, and the best so far.", ""),
    "tuning_importance": (
        "Which parameters mattered",
        "Share of the differences between trials that each parameter explains by itself or with others (fANOVA).",
        "",
    ),
    "tuning_slices": (
        "What each value was worth",
        "Complete trials, later ones darker; the best is ringed.",
        "dense",
    ),
}

ENDS = {
    "complete": "complete",
    "pruned": "pruned because earlier ones did better",
    "failed": "failed and not counted",
}


@dataclass(frozen=True)
class TuningContent:
    """Everything that the page shows.

    Args:
        task, title: of the task.
        phantom: whether any image is drawn.
        study: ``name``, ``monitor``, ``direction``, ``n_trials``, ``space``, ``importance``, ``data_digest`` and
            ``best``, with ``number``, ``value`` and ``parameters``.
        trials: as `trial_table` makes it.
        before: value of each searched parameter without the search, by dotted name.
        figures: PNG bytes by name, those of ``FIGURES``.
        versions: package, or ``git commit``, to version.
    """

    task: str
    title: str
    phantom: bool
    study: Mapping[str, Any]
    trials: pd.DataFrame
    before: Mapping[str, Any]
    figures: Mapping[str, bytes]
    versions: Mapping[str, str]


def render_tuning(content: TuningContent) -> str:
    """Write the page.

    Returns:
        HTML that loads nothing from anywhere. Text from tables is escaped.
    """
    return fill(
        "tuning.html.j2",
        task=content.task,
        title=content.title,
        phantom=content.phantom,
        summary=summary(content),
        warnings=warnings(content),
        pictures=[_picture(name, figure) for name, figure in content.figures.items()],
        best=best_parameters(content),
        trials=trial_rows(content),
        failures=failures(content.trials),
        study=_study(content.study),
        versions=Table(("", ""), tuple(content.versions.items())),
    )


def summary(content: TuningContent) -> list[str]:
    """What was searched, what was found, and how it is used."""
    states = content.trials["state"].value_counts()
    study, best = content.study, content.study["best"]
    ends = [f"{states[state]:,} {words}" for state, words in ENDS.items() if states.get(state)]
    n_finished = int(states.get("complete", 0) + states.get("pruned", 0))
    return [
        f"{n_finished:,} trials varied {len(study['space'])} parameters: {listed(ends)}. Each trained the task's "
        "network on the training images and was judged on the validation images.",
        f"The best was trial {best['number']}, with a {monitor_in_words(study['monitor'])} of {best['value']:.3f}.",
        "The file best_parameters.yml beside this page holds its parameters. To train, test and register a model with "
        "them: kedro run --config, followed by the path of that file.",
    ]


def warnings(content: TuningContent) -> list[str]:
    """Why the best value is too good."""
    complete = int((content.trials["state"] == "complete").sum())
    return [
        f"The value of the best trial is the best of {complete:,} on the same validation images, and of the epochs of "
        "its training the one that is kept: it flatters, and the more the more trials there were. What the parameters "
        "are worth, the test images say, once, after a run with them.",
        "The test images were not looked at during the search.",
        "Values that lie close together cannot be told apart: another seed or other validation images may turn them "
        "round.",
    ]


def best_parameters(content: TuningContent) -> Table:
    """Each searched parameter: the best value, the one before, the axis, and how much it mattered."""
    study = content.study
    rows = [
        (
            name,
            _typed(study["best"]["parameters"][name]),
            _typed(content.before.get(name)),
            axis_in_words(axis),
            as_text(study["importance"][name]) if name in study["importance"] else "",
        )
        for name, axis in study["space"].items()
    ]
    return Table(("parameter", "best", "before", "searched", "importance"), tuple(rows))


def axis_in_words(axis: Mapping[str, Any]) -> str:
    """``"0.0001 to 0.01, log"``."""
    if "choices" in axis:
        return ", ".join(map(_typed, axis["choices"]))
    step = f", step {_typed(axis['step'])}" if "step" in axis else ""
    return f"{_typed(axis['low'])} to {_typed(axis['high'])}{', log' if axis.get('log') else ''}{step}"


def trial_rows(content: TuningContent) -> Table:
    """Finished trials, the complete ones first and of these the best."""
    finished = content.trials[content.trials["state"] != "failed"]
    minimize = content.study["direction"] == "minimize"
    ordered = finished.sort_values(["state", "value", "number"], ascending=[True, minimize, True])
    space = content.study["space"]
    rows = [
        (
            str(row["number"]),
            row["state"],
            as_text(float(row["value"])),
            *(_typed(as_searched(row[name], axis)) for name, axis in space.items()),
            str(row["epochs"]),
            f"{row['seconds']:.0f}",
        )
        for row in ordered.to_dict("records")
    ]
    return Table(("trial", "state", content.study["monitor"], *space, "epochs", "seconds"), tuple(rows))


def failures(trials: pd.DataFrame) -> Table:
    """Failed trials and why."""
    failed = trials[trials["state"] == "failed"]
    return Table(("trial", "reason"), tuple(zip(failed["number"].map(str), failed["reason"].map(str), strict=True)))


def _study(study: Mapping[str, Any]) -> Table:
    facts = {"name": study["name"], "trials wanted": study["n_trials"], "direction": study["direction"]}
    return tables.pairs({**facts, "data digest": study["data_digest"]})


def _picture(name: str, figure: bytes) -> Picture:
    title, explanation, shape = FIGURES[name]
    return Picture(title, explanation, png_uri(figure), shape)


def _typed(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) and value == value else shown(value)
