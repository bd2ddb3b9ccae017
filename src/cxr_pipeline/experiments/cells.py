"""A cell: a task's own pipeline with a few parameters overridden, in a process of its own."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from cxr_pipeline.common.mappings import lay_over

# Name in the catalog of the `Launch`.
LAUNCH = "launch"
# The process of a cell.
SESSION = "cxr_pipeline.framework.processes.cell"

Overrides = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Call:
    """What another process needs to be the same run of the same project, on whatever machine it is.

    Args:
        project: folder of the Kedro project.
        place: folder that the run was called in; relative paths start there.
        conf_source: folder of the configuration.
        env: Kedro environment; None for the default.
        runtime_params: what was given as ``--params``, nested.
        tracking_uri: of MLflow.
        parent_run: id of the MLflow run; None where nothing is tracked.
    """

    project: str
    place: str
    conf_source: str
    env: str | None
    runtime_params: Mapping[str, Any]
    tracking_uri: str
    parent_run: str | None


@dataclass(frozen=True, kw_only=True)
class Cell(Call):
    """One run of a task's pipeline, with its own folder; called as the run that it belongs to.

    Args:
        task: name of the task.
        name: of the cell, and of its MLflow run.
        folder: where its outputs go, an absolute path.
        inputs: folder of the tables that it takes from the run that it belongs to; laid out as ``data/``.
        checkpoints: folder of its training, to go on from; None for that of all trainings.
        overrides: parameters that differ from the task's, nested below its block.
        wanted: catalog name of the last output, without the task: ``history`` or ``metrics``.
    """

    task: str
    name: str
    folder: str
    inputs: str
    checkpoints: str | None
    overrides: Mapping[str, Any]
    wanted: str


@dataclass(frozen=True, kw_only=True)
class Launch(Call):
    """The run that cells belong to.

    Args:
        parameters: all parameters of the task, nested, as they are without a cell.
    """

    parameters: Mapping[str, Any]

    def cell(self, **own: Any) -> Cell:
        """A cell of this run.

        Args:
            own: what `Cell` has beside `Call`.
        """
        return Cell(**{field.name: getattr(self, field.name) for field in fields(Call)}, **own)


def cross(factors: Mapping[str, Mapping[str, Overrides]]) -> dict[str, dict[str, Any]]:
    """Every combination of levels, one of each factor.

    Args:
        factors: for each factor its levels by name, and what each of them overrides.

    Returns:
        Overrides by the names of the levels joined with ``, ``, the last factor changing fastest.

    Example:
        >>> cross({"loss": {"focal": {"loss": "focal"}}, "views": {"0": {"views": 0}, "2": {"views": 2}}})
        {'focal, 0': {'loss': 'focal', 'views': 0}, 'focal, 2': {'loss': 'focal', 'views': 2}}
    """
    cells = {}
    for levels in itertools.product(*(factor.items() for factor in factors.values())):
        overrides: dict[str, Any] = {}
        for _, override in levels:
            overrides = lay_over(overrides, override)
        cells[", ".join(name for name, _ in levels)] = overrides
    return cells
