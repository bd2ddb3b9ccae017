"""Models ranked by what they reached on test images; only those measured on the same images, side by side."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import pandas as pd

from cxr_pipeline.experiments.digests import IDLE, is_below

METRICS = ("auc", "accuracy", "sensitivity", "specificity", "ece")
SAME_IMAGES = ("images", "task", "test_digest")
IMAGES = ("real", "phantom")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One measured model.

    Args:
        kind: a registered ``version``, or a ``cell`` of an experiment.
        name: such as ``cxr-effusion 3``, or ``effusion_ablation: no augmentation``.
        task: name of the task.
        images: ``real`` or ``phantom``, what it was trained and tested on.
        test_digest: ``images_digest`` of ``metrics.json``.
        data_digest: digest of all images and labels of the run.
        metrics: on the test images by name, such as ``auc``, ``auc_low``, ``auc_high``, ``n_images``.
        parameters: of the run, dotted name to value as text.
        date: when it was registered, or measured.
        experiment_id, run_id: of the run; null where it is gone.
        run_url: the run's page, where there is a server.
        url: the version's page, where there is a server.
        aliases: of the version, such as ``champion``.
        unfinished: how a run stands that has not ended well, such as ``failed``.
    """

    kind: Literal["version", "cell"]
    name: str
    task: str | None
    images: str | None
    test_digest: str | None
    data_digest: str | None
    metrics: Mapping[str, float]
    parameters: Mapping[str, str]
    date: datetime
    experiment_id: str | None
    run_id: str | None
    run_url: str | None = None
    url: str | None = None
    aliases: tuple[str, ...] = ()
    unfinished: str | None = None


def leaderboard(entries: Sequence[Entry]) -> pd.DataFrame:
    """Rank models by AUC within each group that was measured on the same test images.

    Groups come with real images first and then phantoms, by task, the last one measured first; models that cannot be
    ranked come after them all. Equal AUCs share a rank.

    Returns:
        a row for each entry, of text and numbers alone: ``group`` and ``rank`` (from 1; null where not ranked),
        ``kind``, ``name``, ``aliases``, ``task``, ``images``, ``n_images``; each of ``METRICS`` with ``_low`` and
        ``_high``; ``interval_overlaps_first`` (null for the first itself: overlap is no test of a difference);
        ``parameters`` (those that differ within the group, as JSON), ``date`` (ISO 8601, UTC), ``test_digest``,
        ``data_digest``, ``experiment_id``, ``run_id``, ``run_url``, ``url``, and ``not_ranked``, the reason.
    """
    reasons = [why_not_ranked(entry) for entry in entries]
    ranked = [entry for entry, reason in zip(entries, reasons, strict=True) if reason is None]
    groups: dict[tuple[Any, ...], list[Entry]] = {}
    for entry in ranked:
        groups.setdefault(tuple(getattr(entry, name) for name in SAME_IMAGES), []).append(entry)
    rows = []
    for number, group in enumerate(sorted(groups.values(), key=_order_of_group), start=1):
        rows += [{"group": number, **row} for row in _rank(group)]
    left = [_row(entry) | {"not_ranked": reason} for entry, reason in zip(entries, reasons, strict=True) if reason]
    rows += sorted(left, key=lambda row: (_place(row["images"]), row["task"] or "", row["date"], row["name"]))
    table = pd.DataFrame(rows, columns=list(_TYPES))
    return table.astype(_TYPES)


def why_not_ranked(entry: Entry) -> str | None:
    """Say why a model cannot be compared with others; None where it can."""
    bounds = [entry.metrics.get(f"auc{end}", math.nan) for end in ("", "_low", "_high")]
    reasons = {
        "its run in MLflow is gone": entry.run_id is None,
        f"its run has not ended well: {entry.unfinished}": entry.unfinished is not None,
        "its task is not known": not entry.task,
        "it is not known whether its images are real": entry.images not in IMAGES,
        "no metrics on test images were recorded": not entry.metrics,
        "it is not known which test images it was measured on: it was made before that was recorded": (
            not entry.test_digest
        ),
        "its AUC is not defined": math.isnan(bounds[0]),
        "its AUC has no interval": math.isnan(sum(bounds)),
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def parameters_that_differ(parameters: Sequence[Mapping[str, str]]) -> list[dict[str, str | None]]:
    """Keep of several runs' parameters those that are not the same in all of them and may make a difference.

    A run says something of a parameter if it logged anything of its block: a run that stops early logs nothing of the
    blocks of later stages, one of older code lacks a parameter that is new in a block. What no model depends on,
    ``digests.IDLE``, is left out.

    Returns:
        for each run its own values, by name; None where the run has no such parameter.

    Example:
        >>> parameters_that_differ([{"training.epochs": "3", "evaluation.seed": "1"}, {"training.epochs": "5"}])
        [{'training.epochs': '3'}, {'training.epochs': '5'}]
    """
    blocks = [set(map(_block, values)) for values in parameters]
    found: dict[str, set[str | None]] = {}
    for name in sorted({name for values in parameters for name in values}):
        if not is_below(name, IDLE):
            saying = zip(parameters, blocks, strict=True)
            found[name] = {values.get(name) for values, own in saying if _block(name) in own}
    return [{name: values.get(name) for name, seen in found.items() if len(seen) > 1} for values in parameters]


def _block(name: str) -> str:
    return name.partition(".")[0]


def _rank(group: Sequence[Entry]) -> list[dict[str, Any]]:
    """Rows of models that were measured on the same images, the best first, the older of equals first."""
    ordered = sorted(group, key=lambda entry: (-entry.metrics["auc"], entry.date, entry.name))
    first = ordered[0].metrics
    differing = parameters_that_differ([entry.parameters for entry in ordered])
    aucs = [entry.metrics["auc"] for entry in ordered]
    rows = []
    for entry, values in zip(ordered, differing, strict=True):
        rank = 1 + aucs.index(entry.metrics["auc"])
        overlaps = entry.metrics["auc_high"] >= first["auc_low"] and entry.metrics["auc_low"] <= first["auc_high"]
        own = {"rank": rank, "interval_overlaps_first": None if rank == 1 else overlaps}
        rows.append(_row(entry) | own | {"parameters": json.dumps(values, ensure_ascii=False) if values else None})
    return rows


def _row(entry: Entry) -> dict[str, Any]:
    plain = {name: getattr(entry, name) for name in _TYPES if hasattr(entry, name) and name != "parameters"}
    figures = {name: entry.metrics.get(name) for name in (*_MEASURED, "n_images")}
    date = entry.date.isoformat(timespec="seconds")
    return {**plain, **figures, "date": date, "aliases": ", ".join(entry.aliases) or None}


def _order_of_group(group: Sequence[Entry]) -> tuple[int, str, float]:
    newest = max(entry.date for entry in group)
    return _place(group[0].images), group[0].task or "", -newest.timestamp()


def _place(images: str | None) -> int:
    return IMAGES.index(images) if images in IMAGES else len(IMAGES)


_MEASURED = tuple(f"{name}{end}" for name in METRICS for end in ("", "_low", "_high"))
_TYPES = {
    **dict.fromkeys(("group", "rank"), "Int64"),
    **dict.fromkeys(("kind", "name", "aliases", "task", "images"), "str"),
    "n_images": "Int64",
    **dict.fromkeys(_MEASURED, "float64"),
    "interval_overlaps_first": "boolean",
    **dict.fromkeys(("parameters", "date", "test_digest", "data_digest"), "str"),
    **dict.fromkeys(("experiment_id", "run_id", "run_url", "url", "not_ranked"), "str"),
}
