"""The page of a hyperparameter search."""

from collections.abc import Mapping

import pandas as pd

from cxr_pipeline.report.figures.tuning import as_searched, monitor_in_words
from cxr_pipeline.report.formatting import Document, as_yaml, number, plural
from cxr_pipeline.report.page import RESEARCH, Page, Section, Table


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
    """Render the page of a study (``tuning_study.json``) with its trials (``trial_table``) as HTML.

    ``before`` has the value of each parameter without the search, by dotted name.
    """
    facts = {
        "name": study["name"],
        "trials": study["n_trials"],
        "direction": study["direction"],
        "data digest": study["data_digest"],
    }
    reasons = trials.loc[trials["state"] == "failed", ["number", "reason"]]
    failed = Table(("trial", "reason"), reasons.to_numpy().tolist(), "long")
    sections = [
        Section("Summary", _summary(study, trials), anchor="summary"),
        Section.warnings(_warnings(trials)),
        Section("Best parameters", [best_parameters(study, before)], anchor="best"),
        Section("Figures", [figures], anchor="figures"),
        Section(
            "Trials",
            [trial_rows(study, trials), Section("Failed trials", [failed])],
            "Complete trials first, in order of their value. The value of a pruned trial is that of its last epoch.",
            anchor="trials",
        ),
        Section("Study", [Table.of_pairs(facts, style="long")], anchor="study"),
        Section("Versions", [Table.of_pairs(versions, style="long")], anchor="versions"),
    ]
    intro = f"Hyperparameter search for the task “{task}”. {RESEARCH}"
    return Page(f"Tuning: {title}", sections, study["phantom"], [intro]).html()


def _summary(study: Document, trials: pd.DataFrame) -> list[str]:
    complete, pruned, failed = (int((trials["state"] == state).sum()) for state in ("complete", "pruned", "failed"))
    best = study["best"]
    return [
        f"{plural(complete + pruned, 'trial')} ({complete:,} complete, {pruned:,} pruned) varied "
        f"{plural(len(study['space']), 'parameter')}. Each trained the network on the training images and was scored "
        f"on the validation images." + f" {plural(failed, 'failed trial')} not counted." * bool(failed),
        f"The best is trial {best['number']}, with a {monitor_in_words(study['monitor'])} of {number(best['value'])}.",
        "best_parameters.yml, next to this page, has its parameters. To train, test and register a model with them, "
        "run kedro run --config with the path of that file.",
    ]


def _warnings(trials: pd.DataFrame) -> list[str]:
    complete = int((trials["state"] == "complete").sum())
    return [
        f"The best value is optimistic: it is the maximum over {complete:,} trials on the same validation images, and "
        "over the epochs of each. A run with the best parameters measures performance on the test images.",
        "The search did not use the test images.",
        "Trials with similar values cannot be ranked: another seed or other validation images may reverse their order.",
    ]


def best_parameters(study: Document, before: Document) -> Table:
    """List the best value of each parameter, the previous value, the search range and the importance."""
    rows = [
        (
            name,
            as_yaml(study["best"]["parameters"][name]),
            as_yaml(before.get(name)),
            axis_in_words(axis),
            study["importance"].get(name, ""),
        )
        for name, axis in study["space"].items()
    ]
    return Table(("parameter", "best", "before", "searched", "importance"), rows)


def axis_in_words(axis: Document) -> str:
    """Describe a search range: ``"0.0001 to 0.01, log"``."""
    if "choices" in axis:
        return ", ".join(map(as_yaml, axis["choices"]))
    step = f", step {as_yaml(axis['step'])}" if "step" in axis else ""
    return f"{as_yaml(axis['low'])} to {as_yaml(axis['high'])}{', log' if axis.get('log') else ''}{step}"


def trial_rows(study: Document, trials: pd.DataFrame) -> Table:
    """List finished trials: complete ones first, by value."""
    finished = trials[trials["state"] != "failed"]
    minimize = study["direction"] == "minimize"
    ordered = finished.sort_values(["state", "value", "number"], ascending=[True, minimize, True])
    space = study["space"]
    rows = [
        (
            row["number"],
            row["state"],
            row["value"],
            *(as_yaml(as_searched(row[name], axis)) for name, axis in space.items()),
            row["epochs"],
            round(row["seconds"]),
        )
        for row in ordered.to_dict("records")
    ]
    return Table(("trial", "state", study["monitor"], *space, "epochs", "seconds"), rows)
