"""The record of what a retraining decided, as a page of Markdown."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from cxr_pipeline.deployment.promotion import COMPARED, Decision, ModelComparison
from cxr_pipeline.report.pages.drift import render_drift
from cxr_pipeline.report.words.text import as_text, spelled

FIGURES = {
    "auc": "AUC",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "balanced_accuracy": "balanced accuracy",
}


def decision_record(
    decision: Decision,
    comparison: ModelComparison | None,
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
        news: ``model``, ``champion``, ``why`` it was trained, ``news``, ``drift`` and ``digest``.
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
        compared_on = {name: getattr(comparison, name) for name in ("n_images", "n_patients", "n_left_out")}
    identity = {name: challenger[name] for name in ("version", "uri", "run_id", "digest")}
    return {
        "task": metrics["task"],
        "model": model,
        "phantom": metrics["phantom"],
        "decision": "promoted" if decision.promoted else "not promoted",
        "decided_at": _now(),
        **decision.to_dict(),
        "challenger": identity,
        "champion": _version(model, champion),
        "tested_on": {"n_images": metrics["n_images"], "n_patients": metrics["n_patients"]},
        "test_digest": metrics["images_digest"],
        "compared_on": compared_on,
        "figures": figures,
        "why_trained": news["why"],
        "news": news["news"],
        "drift": news["drift"],
        "trained_by": news["digest"],
        "rule": dict(rule),
        "bootstrap": dict(bootstrap),
    }


def stop_record(news: Mapping[str, Any]) -> dict[str, Any]:
    """Put together, now, why a retraining stops before anything is trained, as JSON types.

    Args:
        news: ``task``, ``model``, ``phantom``, ``champion``, ``why`` a challenger would have been trained, ``stopped``,
            why none is, ``news``, ``drift`` and ``digest``.
    """
    return {
        "task": news["task"],
        "model": news["model"],
        "phantom": news["phantom"],
        "decision": "stopped",
        "decided_at": _now(),
        "promoted": False,
        "reasons": [news["stopped"]],
        "challenger": None,
        "champion": _version(news["model"], news["champion"]),
        "why_trained": news["why"],
        "news": news["news"],
        "drift": news["drift"],
        "trained_by": news["digest"],
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _version(model: str, number: int | None) -> dict[str, Any] | None:
    return None if number is None else {"version": number, "uri": f"models:/{model}/{number}"}


def decision_name(record: Mapping[str, Any]) -> str:
    """Name the files of a record, without their endings, after its time: ``2031-05-04T020000Z``."""
    return datetime.fromisoformat(record["decided_at"]).strftime("%Y-%m-%dT%H%M%SZ")


def decision_files(record: Mapping[str, Any]) -> dict[str, str]:
    """Write a record in words and as JSON, in files that `decision_name` names.

    Where new images were compared with the champion's, the page of that stands beside them, as ``....drift.html``.
    """
    name = decision_name(record)
    files = {f"{name}.md": render_decision(record)}
    files[f"{name}.json"] = json.dumps(_undrawn(record), indent=2, allow_nan=False) + "\n"
    if record["drift"] and record["drift"]["families"]:
        files[f"{name}.drift.html"] = render_drift(record["drift"])
    return files


def _undrawn(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record without what is there to be drawn."""
    drift = record["drift"]
    if not drift:
        return dict(record)
    families = [
        {**family, "tests": [{**test, "histogram": None} for test in family["tests"]]} for family in drift["families"]
    ]
    return {**record, "drift": {**drift, "families": families}}


def render_decision(record: Mapping[str, Any]) -> str:
    """Write down what was compared, on how many images and patients, and each condition with its verdict.

    Args:
        record: content of the decision's JSON file, as `decision_record` gives it.

    Returns:
        Markdown.
    """
    if record["decision"] == "stopped":
        return "\n\n".join(_stopped(record)) + "\n"
    parts = [f"# {record['model']} {record['challenger']['version']}: {record['decision']}", *_introduction(record)]
    parts += ["## Why", _bullets(record["reasons"]), *_drift(record["drift"])]
    parts += ["## Conditions", _conditions([*record["floors"], *record["comparison"]])]
    parts += ["## Figures", *_figures(record), "## Rule", _rule(record["rule"])]
    return "\n\n".join(parts) + "\n"


def _stopped(record: Mapping[str, Any]) -> list[str]:
    return [
        f"# {record['model']}: stopped",
        *_drawn(record),
        f"At {record['decided_at']} no challenger was trained. The champion stays "
        f"{record['model']} {record['champion']['version']}; no image was added to the splits.",
        record["why_trained"],
        "## Why",
        _bullets(record["reasons"]),
        *_drift(record["drift"]),
    ]


def _drift(drift: Mapping[str, Any] | None) -> list[str]:
    """How the images that were new to the champion compare with its own."""
    if drift is None:
        return []
    rows = [
        (family["name"], spelled(test["name"]), test["effect_name"], as_text(test["effect"]), test["verdict"])
        for family in drift["families"]
        for test in family["tests"]
        if test["verdict"] != "none"
    ]
    notes = dict.fromkeys(note for family in drift["families"] for note in family["notes"])
    return [
        "## New images",
        f"Verdict: {drift['verdict']}. {drift['sentence']}",
        *([_table(("", "what", "measure", "effect", "verdict"), rows)] if rows else []),
        *([_bullets(notes)] if notes else []),
    ]


def _drawn(record: Mapping[str, Any]) -> list[str]:
    drawn = "**Phantom images: drawn by a program. Nothing here says anything about patients.**"
    return [drawn] if record["phantom"] else []


def _introduction(record: Mapping[str, Any]) -> list[str]:
    named = {key: f"{record['model']} {record[key]['version']}" for key in ("challenger", "champion") if record[key]}
    against = f" against the champion {named['champion']}" if "champion" in named else "; there was no champion"
    tested = f"It was tested on {_counted(record['tested_on'])}."
    return [
        *_drawn(record),
        f"Decided at {record['decided_at']} on the challenger {named['challenger']}{against}. {tested}",
        record["why_trained"],
    ]


def _counted(images: Mapping[str, Any]) -> str:
    patients = images["n_patients"]
    whose = "whose patients are not known" if patients is None else f"of {patients:,} patients"
    return f"{images['n_images']:,} images {whose}"


def _conditions(conditions: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (spelled(each["name"]), as_text(each["figure"]), as_text(each["bound"]), "met" if each["met"] else "not met")
        for each in conditions
    ]
    return _table(("condition", "found", "bound", "verdict"), rows) if rows else "There are none."


def _figures(record: Mapping[str, Any]) -> list[str]:
    """The figures of both on the images that both have judged, or of the challenger alone."""
    figures = record["figures"]
    if record["champion"] is None:
        own = [(label, _interval(figures["challenger"][name])) for name, label in FIGURES.items()]
        return [_table(("on its test images", "challenger"), own)]
    on = record["compared_on"]
    left_out = f"; {on['n_left_out']:,} more, which only one of them could judge, are left out" * bool(on["n_left_out"])
    bootstrap = record["bootstrap"]
    how = (
        f"Each at its own frozen threshold, on the same {_counted(on)}{left_out}. The champion learned from none of "
        f"them. Intervals: {100 * bootstrap['confidence']:g} %, {bootstrap['replicates']:,} bootstrap replicates, "
        f"{'patients' if on['n_patients'] else 'images'} drawn whole, for both the same ones."
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
