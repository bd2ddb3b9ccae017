"""A cell: a task's own pipeline with a few parameters overridden, and how cells are named and told apart."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import pandas as pd

import cxr_pipeline
from cxr_pipeline.nesting import json_digest, lay_over

# Name in the catalog of the `Launch`.
LAUNCH = "launch"

Overrides = Mapping[str, Any]

# Of the parameters of a task, those that no cell's result depends on.
IDLE = ("ablation", "drift", "parallel", "retraining", "sanity", "scoring", "subgroups", "tuning")
# The process of a cell.
SESSION = "cxr_pipeline.experiments.session"
# What must be equal for two cells to compute the same features of the same films.
FEATURES = ("resolution", "morphology", "augmentation", "model")


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
        overrides: parameters that differ from the task's, nested below its block.
        wanted: catalog name of the last output, without the task: ``history`` or ``metrics``.
    """

    task: str
    name: str
    folder: str
    inputs: str
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


def digest(parameters: Mapping[str, Any], **data: str) -> str:
    """What a cell's result depends on, as a name: its parameters, the films and the version of the code.

    Args:
        parameters: all parameters of the task, the cell's laid over them.
        data: digests of the data.

    Returns:
        64 hexadecimal digits.
    """
    counted = {key: value for key, value in parameters.items() if key not in IDLE}
    return json_digest({"parameters": counted, "data": data, "version": cxr_pipeline.__version__})


def table_digest(table: pd.DataFrame) -> str:
    """Digest of the rows of a table, whatever their order."""
    return json_digest(sorted(table.astype(str).itertuples(index=False, name=None)))


def chains(cells: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Put cells that compute the same features one after the other, so that the later ones find them.

    Args:
        cells: all parameters of each cell, by name.

    Returns:
        Names of cells; chains can run at the same time. Within one, cells that differ in nothing but what
        chooses the epoch are neighbours.
    """
    found: dict[str, list[str]] = {}
    for name, parameters in cells.items():
        found.setdefault(json_digest({block: parameters.get(block) for block in FEATURES}), []).append(name)
    return [sorted(chain, key=lambda name: _training(cells[name])) for chain in found.values()]


def companions(chain: Sequence[str], cells: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """For each cell the metrics by which later cells of its chain choose another epoch of the same training.

    Args:
        chain: names of cells in the order in which they run.
        cells: all parameters of each cell, by name.
    """
    found: dict[str, list[str]] = {name: [] for name in chain}
    first: dict[str, str] = {}
    for name in chain:
        training = _training(cells[name])
        if training in first:
            found[first[training]].append(str(cells[name]["training"]["monitor"]))
        else:
            first[training] = name
    return found


def _training(parameters: Mapping[str, Any]) -> str:
    """What decides a training, but for the metric that chooses its epoch."""
    counted = {key: value for key, value in parameters.items() if key not in (*IDLE, "thresholds", "evaluation")}
    training = {key: value for key, value in parameters["training"].items() if key != "monitor"}
    return json_digest({**counted, "training": training})
