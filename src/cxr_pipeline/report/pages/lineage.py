"""The tables of ``kedro lineage``, for the terminal."""

from collections.abc import Iterable, Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from cxr_pipeline.common.mappings import flatten
from cxr_pipeline.report.formatting import as_text, flat_measure, humanize
from cxr_pipeline.report.kinds import MEASURES, title

_DIGITS = 8
# Columns that wrap in a narrow terminal.
WRAPPED = ("aliases", "decision", "images seen")


def overview(rows: Iterable[Mapping[str, Any]], title: str) -> Table:
    """Return a table of versions; its columns are the keys of the rows."""
    rows = list(rows)
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=0)
    for name in rows[0]:
        table.add_column(name, overflow="fold", no_wrap=name not in WRAPPED)
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row.values()))
    return table


def details(facts: Mapping[str, Any], title: str) -> Table:
    """Return a table of facts about one version; what is missing is not on record."""
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(name, "not on record" if value in (None, "", {}) else _written(value))
    return table


def short(digest: str | None) -> str | None:
    """Shorten a digest or a commit; ``+`` marks a commit with uncommitted changes."""
    return digest[:_DIGITS] + "+" * digest.endswith("+changes") if digest else None


def measures(metrics: Mapping[str, float], prefix: str = "") -> dict[str, str]:
    """Format flat metrics such as ``auc``, ``auc_low`` and ``auc_high`` with their intervals, by title."""
    own = {name.removeprefix(prefix): value for name, value in metrics.items() if name.startswith(prefix)}
    return {title(name): flat_measure(own, name) for name in MEASURES if name in own}


def rule(decision_rule: Mapping[str, Any]) -> dict[str, Any]:
    """Return a decision rule with its dotted names in words."""
    return {humanize(name): value for name, value in flatten(decision_rule).items()}


def differing(then: Mapping[str, str], now: Mapping[str, Any]) -> list[str]:
    """List the parameters of a version that have another value today.

    Args:
        then: parameters as they were logged, by dotted name.
        now: today's parameters, by dotted name; those missing here are ignored.
    """
    return [
        f"{name}: {value} (today {now[name]})"
        for name, value in then.items()
        if name in now and not _same(value, now[name])
    ]


def images_by_split(counts: Mapping[str, int]) -> str:
    """Return ``"train 30, validation 4, test 6"``."""
    return ", ".join(f"{split} {count:,}" for split, count in counts.items())


def _written(value: Any) -> str:
    if isinstance(value, Mapping):
        return "\n".join(f"{name}: {as_text(item) or 'none'}" for name, item in value.items())
    return "\n".join(value) if isinstance(value, list) else as_text(value)


def _same(then: str, now: Any) -> bool:
    try:
        return float(then) == float(now)
    except (TypeError, ValueError):
        return then == str(now)
