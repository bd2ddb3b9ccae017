"""Rank models by their AUC on test images. Only models tested on the same images are ranked together."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import pandas as pd

from cxr_pipeline.evaluation.metrics import HEADLINE
from cxr_pipeline.experiments.digests import WITHOUT_EFFECT, in_blocks
from cxr_pipeline.report.formatting import HIGH, LOW, TOO_FEW

IMAGES = ("real", "phantom")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A model with metrics on test images: a registered ``version``, or a ``cell`` of an ablation.

    Args:
        name: such as ``cxr-effusion 3``, or ``effusion_ablation: no augmentation``.
        test_digest, data_digest: of the test images, and of all images and labels of the run.
        metrics: on the test images, such as ``auc``, ``auc_low``, ``auc_high``, ``n_images``.
        parameters: of the run, dotted name to text.
        experiment_id, run_id: MLflow ids of the run; None if it was deleted.
        run_url, url: pages of the run and of the version, if there is a server.
        unfinished: status of a run that did not finish, such as ``failed``.
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


AUC_TOO_FEW = f"auc{TOO_FEW}"
_METRIC_COLUMNS = (*(f"{name}{end}" for name in HEADLINE for end in ("", LOW, HIGH)), AUC_TOO_FEW)
_TYPES = {
    **dict.fromkeys(("group", "rank"), "Int64"),
    **dict.fromkeys(("kind", "name", "aliases", "task", "images"), "str"),
    "n_images": "Int64",
    **dict.fromkeys(_METRIC_COLUMNS, "float64"),
    "interval_overlaps_first": "boolean",
    **dict.fromkeys(("parameters", "date", "test_digest", "data_digest"), "str"),
    **dict.fromkeys(("experiment_id", "run_id", "run_url", "url", "not_ranked"), "str"),
}


def leaderboard(entries: Sequence[Entry]) -> pd.DataFrame:
    """Rank models by AUC within each group tested on the same images; equal AUCs share a rank.

    Real images come before phantoms, sorted by task and latest date; models that cannot be ranked come last.

    Returns:
        A row for each entry with the columns ``_TYPES``: ``group`` and ``rank`` from 1; ``interval_overlaps_first``
        (null for the first itself, and with too few patients for an interval; overlap is not a test of a difference);
        ``parameters`` that differ within the group, as JSON; ``date`` as ISO 8601 in UTC; the reason ``not_ranked``.
    """
    groups: dict[tuple[str | None, ...], list[Entry]] = {}
    not_ranked = []
    for entry in sorted(entries, key=lambda entry: _group_order([entry])):
        if reason := why_not_ranked(entry):
            not_ranked.append(_row(entry) | {"not_ranked": reason})
        else:
            groups.setdefault((entry.images, entry.task, entry.test_digest), []).append(entry)
    rows = []
    for number, group in enumerate(sorted(groups.values(), key=_group_order), start=1):
        rows += [{"group": number, **row} for row in _rank(group)]
    return pd.DataFrame([*rows, *not_ranked], columns=list(_TYPES)).astype(_TYPES)


def why_not_ranked(entry: Entry) -> str | None:
    """Return why a model cannot be compared with others, or None if it can."""
    auc, low, high = (entry.metrics.get(f"auc{end}", math.nan) for end in ("", LOW, HIGH))
    reasons = {
        "its MLflow run was deleted": entry.run_id is None,
        f"its run did not finish: {entry.unfinished}": entry.unfinished is not None,
        "its task is unknown": not entry.task,
        "it is unknown whether its images are real or phantoms": entry.images not in IMAGES,
        "no metrics on test images were logged": not entry.metrics,
        "its test images are unknown: its run did not log them": not entry.test_digest,
        "its AUC is undefined": math.isnan(auc),
        "its AUC has no interval": math.isnan(low + high) and AUC_TOO_FEW not in entry.metrics,
    }
    return next((reason for reason, applies in reasons.items() if applies), None)


def parameters_that_differ(parameters: Sequence[Mapping[str, str]]) -> list[dict[str, str | None]]:
    """Return, for each run, the parameters that differ between runs and may affect a result, None where it has none.

    A run that ended early does not log the blocks of later stages, so a parameter is compared only between runs that
    logged its block. A new parameter of a block differs from older runs.

    Example:
        >>> parameters_that_differ([{"training.epochs": "3", "evaluation.seed": "1"}, {"training.epochs": "5"}])
        [{'training.epochs': '3'}, {'training.epochs': '5'}]
    """
    names = {name for values in parameters for name in values if not in_blocks(name, WITHOUT_EFFECT)}
    blocks = [{name.split(".")[0] for name in values} for values in parameters]
    differing = []
    for name in sorted(names):
        block = name.split(".")[0]
        logged = {values.get(name) for values, own in zip(parameters, blocks, strict=True) if block in own}
        if len(logged) > 1:
            differing.append(name)
    return [{name: values.get(name) for name in differing} for values in parameters]


def _rank(group: Sequence[Entry]) -> list[dict[str, Any]]:
    """Return rows of models tested on the same images, the best first; of equal ones, the older first."""
    ordered = sorted(group, key=lambda entry: (-entry.metrics["auc"], entry.date, entry.name))
    first = ordered[0].metrics
    aucs = [entry.metrics["auc"] for entry in ordered]
    rows = []
    for entry, values in zip(ordered, parameters_that_differ([entry.parameters for entry in ordered]), strict=True):
        rank = 1 + aucs.index(entry.metrics["auc"])
        overlaps = None
        if AUC_TOO_FEW not in entry.metrics and AUC_TOO_FEW not in first:
            overlaps = entry.metrics["auc_high"] >= first["auc_low"] and entry.metrics["auc_low"] <= first["auc_high"]
        parameters = json.dumps(values, ensure_ascii=False) if values else None
        ranked = {"rank": rank, "interval_overlaps_first": None if rank == 1 else overlaps, "parameters": parameters}
        rows.append(_row(entry) | ranked)
    return rows


def _row(entry: Entry) -> dict[str, Any]:
    fields = {name: getattr(entry, name) for name in _TYPES if hasattr(entry, name) and name != "parameters"}
    metrics = {name: entry.metrics.get(name) for name in (*_METRIC_COLUMNS, "n_images")}
    date = entry.date.isoformat(timespec="seconds")
    return {**fields, **metrics, "date": date, "aliases": ", ".join(entry.aliases) or None}


def _group_order(group: Sequence[Entry]) -> tuple[bool, bool, str, float]:
    images = group[0].images
    newest = max(entry.date for entry in group)
    return images not in IMAGES, images != IMAGES[0], group[0].task or "", -newest.timestamp()
