"""Where versions come from, as tables for a terminal."""

from collections.abc import Iterable, Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from cxr_pipeline.common.mappings import flatten
from cxr_pipeline.report.words.tables import MEASURES
from cxr_pipeline.report.words.text import as_text, spelled

_DIGITS = 8
# Columns that are folded where the terminal is narrow.
WRAPPED = ("aliases", "decision", "images seen")


def overview(rows: Iterable[Mapping[str, Any]], title: str) -> Table:
    """Versions by row: ``version``, ``aliases``, ``date``, and whatever else the rows have."""
    rows = list(rows)
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=0)
    for name in rows[0]:
        table.add_column(name, overflow="fold", no_wrap=name not in WRAPPED)
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row.values()))
    return table


def details(facts: Mapping[str, Any], title: str) -> Table:
    """What is known of one version, a row for each fact; what is null is not on record."""
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(name, "not on record" if value in (None, "", {}) else _written(value))
    return table


def _written(value: Any) -> str:
    if isinstance(value, Mapping):
        return "\n".join(f"{name}: {as_text(item) or 'none'}" for name, item in value.items())
    return "\n".join(value) if isinstance(value, list) else as_text(value)


def short(digest: str | None) -> str | None:
    """The first digits of a digest or a commit, with ``+`` where files differed from it."""
    return digest[:_DIGITS] + "+" * digest.endswith("+changes") if digest else None


def measures(metrics: Mapping[str, float], prefix: str = "") -> dict[str, str]:
    """Each measure with its interval, from flat metrics such as ``auc``, ``auc_low`` and ``auc_high``."""
    written = {}
    for name, (title, _) in MEASURES.items():
        value, low, high = (metrics.get(f"{prefix}{name}{end}") for end in ("", "_low", "_high"))
        if value is not None:
            bounds = "" if low is None or high is None else f" ({low:.3f} to {high:.3f})"
            written[title] = f"{value:.3f}{bounds}"
    return written


def rule(decision_rule: Mapping[str, Any]) -> dict[str, Any]:
    """A decision rule with dotted names in words; of each class where there are several."""
    return {spelled(name): value for name, value in flatten(decision_rule).items()}


def differing(then: Mapping[str, str], now: Mapping[str, Any]) -> list[str]:
    """Parameters that a version was made with and that are others today.

    Args:
        then: as the run has them, by dotted name.
        now: of today's configuration, by dotted name; others are not compared.
    """
    return [
        f"{name}: {value} (today {now[name]})"
        for name, value in then.items()
        if name in now and not _same(value, now[name])
    ]


def _same(then: str, now: Any) -> bool:
    try:
        return float(then) == float(now)
    except (TypeError, ValueError):
        return then == str(now)


def images_by_split(counts: Mapping[str, int]) -> str:
    """``"train 30, validation 4, test 6"``."""
    return ", ".join(f"{split} {count:,}" for split, count in counts.items())
