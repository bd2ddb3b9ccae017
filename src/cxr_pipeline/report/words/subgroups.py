"""How good a model is for each sex, age band and view, in words and as a table.

``subgroups`` is the content of ``subgroups.json``.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from cxr_pipeline.evaluation.subgroups import ATTRIBUTES, MEASURES
from cxr_pipeline.report.words.tables import Table, title, with_interval
from cxr_pipeline.report.words.text import as_text, listed

Document = Mapping[str, Any]


def subgroup_table(subgroups: Document) -> Table | None:
    """A row for each group that was measured; None where none was."""
    measured = [(what, name, group) for what, name, group in _groups(subgroups) if group["metrics"]]
    if not measured:
        return None
    several = len(measured[0][2]["n_known"]) > 1
    rows = [
        (
            f"{what}: {name}",
            as_text(group["n_images"]),
            "not known" if group["n_patients"] is None else as_text(group["n_patients"]),
            *([f"{len(group['per_class'])} of {len(group['n_known'])}"] if several else []),
            as_text(_prevalence(group)),
            *(with_interval(group["metrics"][name]) for name in MEASURES),
        )
        for what, name, group in measured
    ]
    columns = (
        "group",
        "images",
        "patients",
        *(["classes"] if several else []),
        "prevalence",
        *map(title, MEASURES),
    )
    return Table(columns, tuple(rows))


def subgroup_sentences(subgroups: Document) -> list[str]:
    """How to read the table; which groups are too small; what is not known of the images."""
    least = subgroups["min_patients"]
    small = [
        f"{what} {name} ({group['n_images']:,} images)"
        for what, name, group in _groups(subgroups)
        if not group["metrics"]
    ]
    silent = [what for what in ATTRIBUTES if not subgroups[what]["groups"]]
    partly = [
        f"{what} for {subgroups[what]['n_unknown']:,} images"
        for what in ATTRIBUTES
        if subgroups[what]["n_unknown"] and what not in silent
    ]
    sentences = []
    if len(silent) < len(ATTRIBUTES):
        sentences.append(
            f"At the decision rule of all images, with {100 * subgroups['confidence']:g} % intervals. Many groups are "
            "looked at, and small ones are rough: one that stands out may do so by chance."
        )
    if any(len(group["n_known"]) > 1 for _, _, group in _groups(subgroups)):
        sentences.append(
            f"Figures are means over the classes of which a group has {least} patients with it and {least} without; "
            "means over other classes cannot be compared."
        )
    if small:
        sentences.append(f"Not measured, with fewer than {least} patients with a class or without it: {listed(small)}.")
    if silent:
        sentences.append(f"Not known of any test image: {listed(silent)}.")
    if partly:
        sentences.append(f"Not known, and left out: {listed(partly)}.")
    return sentences


def _groups(subgroups: Document) -> Iterator[tuple[str, str, Document]]:
    for what in ATTRIBUTES:
        for name, group in subgroups[what]["groups"].items():
            yield what, name, group


def _prevalence(group: Document) -> float:
    """Share of the images of a class among those of which it is known; the mean over the classes that were measured."""
    shares = [group["n_positive"][name] / group["n_known"][name] for name in group["per_class"]]
    return float(sum(shares) / len(shares))
