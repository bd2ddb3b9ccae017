"""The record of a retraining decision, as JSON and as a page of Markdown."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from cxr_pipeline.deployment.promotion import COMPARED, Decision
from cxr_pipeline.report.formatting import Document, measure, percent, plural, wording, words
from cxr_pipeline.report.page import Block, Page, Section, Table, Verdict
from cxr_pipeline.report.pages.drift import render_drift

SIDES = ("challenger", "champion")
HEADLINE = ("auc", "sensitivity", "specificity")


def decision_record(
    decision: Decision,
    comparison: Document | None,
    *,
    challenger: Document,
    metrics: Document,
    changes: Document,
    rule: Document,
    bootstrap: Document,
) -> dict[str, Any]:
    """Collect the basis of a decision, as JSON types, with the current time.

    There is no comparison without a champion, or if a version is made the champion by hand. ``challenger`` is its
    version and ``metrics`` its ``metrics.json``; ``changes`` says why it was trained; ``rule`` and ``bootstrap`` are
    parameters.
    """
    figures: dict[str, Any] = {"challenger": {name: metrics["metrics"][name] for name in COMPARED}}
    compared_on = None
    if comparison is not None:
        figures = {side: comparison[side] for side in (*SIDES, "differences")}
        compared_on = {name: comparison[name] for name in ("n_images", "n_patients", "n_left_out")}
    return {
        **_record(changes, metrics, "promoted" if decision.promoted else "not promoted"),
        **asdict(decision),
        "challenger": {name: challenger[name] for name in ("version", "uri", "run_id", "digest")},
        "tested_on": {"n_images": metrics["n_images"], "n_patients": metrics["n_patients"]},
        "test_digest": metrics["images_digest"],
        "compared_on": compared_on,
        "figures": figures,
        "rule": dict(rule),
        "bootstrap": dict(bootstrap),
    }


def stop_record(changes: Document) -> dict[str, Any]:
    """Collect why a challenger would have been trained and is not, as JSON types, with the current time."""
    reasons = {"promoted": False, "reasons": [changes["stopped"]], "challenger": None}
    return {**_record(changes, changes, "stopped"), **reasons}


def decision_name(record: Document) -> str:
    """Name the files of a record, without their suffixes, after its time: ``2031-05-04T020000Z``."""
    return datetime.fromisoformat(record["decided_at"]).strftime("%Y-%m-%dT%H%M%SZ")


def decision_files(record: Document) -> dict[str, str]:
    """Write a record as Markdown and JSON, and the page of its drift check, if there was one, by file name."""
    name, drift = decision_name(record), record["drift"]
    files = {f"{name}.md": render_decision(record)}
    if drift:
        # Histograms are for the page; they would make up most of the JSON file.
        families = [
            {**family, "tests": [{**test, "histogram": None} for test in family["tests"]]}
            for family in drift["families"]
        ]
        record = {**record, "drift": {**drift, "families": families}}
    files[f"{name}.json"] = json.dumps(record, indent=2, allow_nan=False) + "\n"
    if drift and drift["families"]:
        files[f"{name}.drift.html"] = render_drift(drift)
    return files


def render_decision(record: Document) -> str:
    """Render a record, the content of its JSON file, as Markdown."""
    sections = [Section("Reasons", [record["reasons"]]), *_drift(record["drift"])]
    name = record["model"]
    if record["challenger"]:
        name += f" {record['challenger']['version']}"
        conditions = [
            (_condition(each["name"]), each["figure"], each["bound"], "met" if each["met"] else "not met")
            for each in (*record["floors"], *record["comparison"])
        ]
        sections += [
            Section("Conditions", [Table(("condition", "value", "bound", "result"), conditions) or "None."]),
            Section("Metrics", _metrics(record)),
            Section("Rule", [_rule(record["rule"])]),
        ]
    return Page(
        f"{name}: {record['decision']}", _verdict(record), sections, record["phantom"], [record["why_trained"]]
    ).markdown()


def _verdict(record: Document) -> Verdict:
    """Give the decision, the metrics of the challenger, and what it was compared with."""
    model, challenger, champion = record["model"], record["challenger"], record["champion"]
    facts = {"Decided at": record["decided_at"], "Champion": f"{model} {champion['version']}" if champion else "none"}
    if not challenger:
        sentence = "Retraining stopped without training a challenger. No image was added to the splits."
        return Verdict(sentence, facts=facts, alarming=True)
    measured = record["figures"]["challenger"]
    facts |= {"MLflow run": challenger["run_id"], "Tested on": _counted(record["tested_on"])}
    against = f" in place of {model} {champion['version']}" if champion else ""
    return Verdict(
        f"{model} {challenger['version']} was {record['decision']}{against}.",
        {words(name): measure(measured[name]) for name in HEADLINE if name in measured},
        facts,
    )


def _record(changes: Document, about: Document, decision: str) -> dict[str, Any]:
    """Return what every record has; ``about`` has the ``task`` and whether its images are ``phantom``."""
    model, champion = changes["model"], changes["champion"]
    return {
        "task": about["task"],
        "model": model,
        "phantom": about["phantom"],
        "decision": decision,
        "decided_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "champion": None if champion is None else {"version": champion, "uri": f"models:/{model}/{champion}"},
        "why_trained": changes["why"],
        "data_changes": changes["changes"],
        "drift": changes["drift"],
        "trained_by": changes["digest"],
    }


def _condition(name: str) -> str:
    prefix = "floor of "
    return prefix + words(name.removeprefix(prefix)) if name.startswith(prefix) else name


def _counted(images: Document) -> str:
    patients = images["n_patients"]
    whose = "whose patients are unknown" if patients is None else f"of {plural(patients, 'patient')}"
    return f"{plural(images['n_images'], 'image')} {whose}"


def _drift(drift: Document | None) -> list[Section]:
    if drift is None:
        return []
    rows = [
        (family["name"], words(test["name"]), test["effect_name"], test["effect"], test["verdict"])
        for family in drift["families"]
        for test in family["tests"]
        if test["verdict"] != "none"
    ]
    notes = list(dict.fromkeys(note for family in drift["families"] for note in family["notes"]))
    table = Table(("", "tested", "measure", "effect", "verdict"), rows)
    verdict = wording()["drift"]["verdicts"][drift["verdict"]]
    return [Section("Drift of the new images", [f"Verdict: {verdict}. {drift['sentence']}", table, notes])]


def _metrics(record: Document) -> list[Block]:
    """Compare both models on the images that both scored, or show the challenger's metrics."""
    figures, on, bootstrap = record["figures"], record["compared_on"], record["bootstrap"]
    if on is None:
        return [Table(("metric", "challenger"), [(words(name), figures["challenger"][name]) for name in COMPARED])]
    left_out = f"; {plural(on['n_left_out'], 'image')} that only one of them could score are left out"
    sentence = (
        f"Each model uses its own decision rule, on the same {_counted(on)}{left_out * bool(on['n_left_out'])}. The "
        f"champion was trained on none of them. {percent(bootstrap['confidence'])} intervals; those "
        f"of differences come from {bootstrap['replicates']:,} bootstrap replicates, resampling "
        f"{'patients' if on['n_patients'] else 'images'}, the same for both."
    )
    compared = [
        (words(name), *(figures[side][name] for side in SIDES), measure(figures["differences"][name], sign=True))
        for name in COMPARED
    ]
    return [sentence, Table(("metric", *SIDES, "difference"), compared)]


def _rule(rule: Document) -> str:
    floors = ", ".join(f"{words(name)} {value:g}" for name, value in rule["floors"].items()) or "none"
    margin = f"the lower bound of the difference in AUC is above -{rule['auc_margin']:g}"
    progress = {
        "better": "AUC is significantly better",
        "better_or_newer": f"AUC is significantly better, or the challenger was trained on newer data and {margin}",
    }
    return (
        f"Floors: {floors}. With a champion also: the lower bound of the difference in sensitivity is above "
        f"-{rule['sensitivity_margin']:g}, and {progress[rule['improvement']]}."
    )
