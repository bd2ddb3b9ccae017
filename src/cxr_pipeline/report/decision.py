"""The record of a promotion decision, as a page of Markdown."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from cxr_pipeline.promotion import COMPARED, Comparison, Decision
from cxr_pipeline.report.text import as_text, spelled

FIGURES = {
    "auc": "AUC",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "balanced_accuracy": "balanced accuracy",
}


def decision_record(
    decision: Decision,
    comparison: Comparison | None,
    *,
    challenger: Mapping[str, Any],
    metrics: Mapping[str, Any],
    news: Mapping[str, Any],
    rule: Mapping[str, Any],
    bootstrap: Mapping[str, Any],
) -> dict[str, Any]:
    """Put together, now, all that a decision rests on, as JSON types.

    Args:
        decision: what was decided.
        comparison: of the challenger with the champion; None without a champion.
        challenger: the version: ``name``, ``version``, ``uri``, ``run_id`` and ``digest``.
        metrics: its ``metrics.json``.
        news: ``model``, ``champion``, ``why`` it was trained, ``news`` and ``digest``.
        rule: the parameters of the rule.
        bootstrap: ``replicates``, ``confidence`` and ``seed``.
    """
    model, champion = news["model"], news["champion"]
    own = {name: metrics["metrics"][name] for name in COMPARED}
    figures = {"challenger": own}
    compared_on = None
    if comparison is not None:
        sides = ("challenger", "champion", "differences")
        figures = {side: {**getattr(comparison, side)} for side in sides}
        compared_on = {name: getattr(comparison, name) for name in ("n_films", "n_patients", "n_left_out")}
    identity = {name: challenger[name] for name in ("version", "uri", "run_id", "digest")}
    return {
        "task": metrics["task"],
        "model": model,
        "phantom": metrics["phantom"],
        "decided_at": datetime.now(UTC).isoformat(timespec="seconds"),
        **decision.to_dict(),
        "challenger": identity,
        "champion": None if champion is None else {"version": champion, "uri": f"models:/{model}/{champion}"},
        "tested_on": {"n_films": metrics["n_images"], "n_patients": metrics["n_patients"]},
        "test_digest": metrics["films_digest"],
        "compared_on": compared_on,
        "figures": figures,
        "why_trained": news["why"],
        "news": news["news"],
        "trained_by": news["digest"],
        "rule": dict(rule),
        "bootstrap": dict(bootstrap),
    }


def decision_files(record: Mapping[str, Any]) -> dict[str, str]:
    """Write a record in words and as JSON, in files named after its time, such as ``2031-05-04T020000Z.md``."""
    name = datetime.fromisoformat(record["decided_at"]).strftime("%Y-%m-%dT%H%M%SZ")
    return {f"{name}.md": render_decision(record), f"{name}.json": json.dumps(record, indent=2, allow_nan=False) + "\n"}


def render_decision(record: Mapping[str, Any]) -> str:
    """Write down what was compared, on how many films and patients, and each condition with its verdict.

    Args:
        record: content of the decision's JSON file, as `decision_record` gives it.

    Returns:
        Markdown.
    """
    verdict = "promoted" if record["promoted"] else "not promoted"
    parts = [f"# {record['model']} {record['challenger']['version']}: {verdict}", *_introduction(record)]
    parts += ["## Why", _bullets(record["reasons"])]
    parts += ["## Conditions", _conditions([*record["floors"], *record["comparison"]])]
    parts += ["## Figures", *_figures(record), "## Rule", _rule(record["rule"])]
    return "\n\n".join(parts) + "\n"


def _introduction(record: Mapping[str, Any]) -> list[str]:
    drawn = ["**Phantom films: drawn by a program. Nothing here says anything about patients.**"]
    named = {key: f"{record['model']} {record[key]['version']}" for key in ("challenger", "champion") if record[key]}
    against = f" against the champion {named['champion']}" if "champion" in named else "; there was no champion"
    tested = f"It was tested on {_counted(record['tested_on'])}."
    return [
        *(drawn if record["phantom"] else []),
        f"Decided at {record['decided_at']} on the challenger {named['challenger']}{against}. {tested}",
        record["why_trained"],
    ]


def _counted(films: Mapping[str, Any]) -> str:
    patients = films["n_patients"]
    whose = "whose patients are not known" if patients is None else f"of {patients:,} patients"
    return f"{films['n_films']:,} films {whose}"


def _conditions(conditions: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (spelled(each["name"]), as_text(each["figure"]), as_text(each["bound"]), "met" if each["met"] else "not met")
        for each in conditions
    ]
    return _table(("condition", "found", "bound", "verdict"), rows) if rows else "There are none."


def _figures(record: Mapping[str, Any]) -> list[str]:
    """The figures of both on the films that both have judged, or of the challenger alone."""
    figures = record["figures"]
    if record["champion"] is None:
        own = [(label, _interval(figures["challenger"][name])) for name, label in FIGURES.items()]
        return [_table(("on its test films", "challenger"), own)]
    on = record["compared_on"]
    left_out = f"; {on['n_left_out']:,} more, which only one of them could judge, are left out" * bool(on["n_left_out"])
    bootstrap = record["bootstrap"]
    how = (
        f"Each at its own frozen threshold, on the same {_counted(on)}{left_out}. The champion learned from none of "
        f"them. Intervals: {100 * bootstrap['confidence']:g} %, {bootstrap['replicates']:,} bootstrap replicates, "
        f"{'patients' if on['n_patients'] else 'films'} drawn whole, for both the same ones."
    )
    rows = [
        (
            FIGURES[name],
            *(_interval(figures[which][name]) for which in ("challenger", "champion")),
            _interval(figures["differences"][name], sign="+"),
        )
        for name in FIGURES
    ]
    return [how, _table(("figure", "challenger", "champion", "difference"), rows)]


def _interval(measure: Mapping[str, float | None], sign: str = "") -> str:
    value, low, high = (measure[key] for key in ("value", "low", "high"))
    if value is None:
        return as_text(None)
    shown = f"{value:{sign}.3f}"
    return shown if low is None or high is None else f"{shown} ({low:{sign}.3f} to {high:{sign}.3f})"


def _rule(rule: Mapping[str, Any]) -> str:
    floors = ", ".join(f"{spelled(name)} {value:g}" for name, value in rule["floors"].items()) or "none"
    progress = {
        "better": "AUC is better with confidence",
        "better_or_newer": f"AUC is better with confidence, or it learned from newer data and the lower end of the "
        f"difference in AUC lies above -{rule['auc_margin']:g}",
    }
    return (
        f"Floors: {floors}. Against a champion also: the lower end of the difference in sensitivity lies above "
        f"-{rule['sensitivity_margin']:g}; and {progress[rule['improvement']]}."
    )


def _bullets(sentences: Iterable[str]) -> str:
    return "\n".join(f"- {sentence}" for sentence in sentences)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
