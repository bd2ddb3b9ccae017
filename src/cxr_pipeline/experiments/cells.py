"""A cell: a task's own pipeline with a few parameters overridden, and how cells are named and told apart."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

import cxr_pipeline
from cxr_pipeline.images import recipe
from cxr_pipeline.models.weights import content_digest, is_pretrained
from cxr_pipeline.nesting import flatten, json_digest, lay_over
from cxr_pipeline.training.versions import training_versions

# Name in the catalog of the `Launch`.
LAUNCH = "launch"

Overrides = Mapping[str, Any]

# Of the parameters of a task, those that no cell's result depends on.
IDLE = (
    *("ablation", "drift", "parallel", "retraining", "sanity", "scoring", "subgroups", "tuning"),
    *("resolution.workers", "task.title", "training.companions"),
)
# Those that no training depends on.
AFTER_TRAINING = ("evaluation", "thresholds")
# The process of a cell.
SESSION = "cxr_pipeline.experiments.session"
# What must be equal for two cells to compute the same features of the same films, beside the augmentation.
FEATURES = (
    *("resolution.size", "resolution.mode", "morphology"),
    *("model.name", "model.weights", "model.pooling", "training.fine_tuning.cut"),
)


@dataclass(frozen=True)
class Cell:
    """One run of a task's pipeline, with its own folder.

    Args:
        task: name of the task.
        name: of the cell, and of its MLflow run.
        folder: where its outputs go, an absolute path.
        overrides: parameters that differ from the task's, nested below its block.
        wanted: catalog name of the last output, without the task: ``history`` or ``metrics``.
        project, env, runtime_params, parent_run: of the `Launch`.
    """

    task: str
    name: str
    folder: str
    overrides: Mapping[str, Any]
    wanted: str
    project: str
    env: str | None
    runtime_params: Mapping[str, Any]
    parent_run: str | None


@dataclass(frozen=True)
class Launch:
    """The run that cells belong to.

    Args:
        project: folder of the Kedro project.
        env: Kedro environment; None for the default.
        runtime_params: what was given as ``--params``, nested.
        parent_run: id of the MLflow run; None where nothing is tracked.
        parameters: all parameters of the task, nested, as they are without a cell.
    """

    project: str
    env: str | None
    runtime_params: Mapping[str, Any]
    parent_run: str | None
    parameters: Mapping[str, Any]

    def cell(self, *, task: str, name: str, folder: str, overrides: Mapping[str, Any], wanted: str) -> Cell:
        """A cell of this run, see `Cell`."""
        return Cell(
            task=task,
            name=name,
            folder=folder,
            overrides=overrides,
            wanted=wanted,
            project=self.project,
            env=self.env,
            runtime_params=self.runtime_params,
            parent_run=self.parent_run,
        )


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


def digest(parameters: Mapping[str, Any], *, idle: Sequence[str] = (), **data: object) -> str:
    """What a cell's result depends on, as a name: its parameters, the films and the versions of the code.

    Args:
        parameters: all parameters of the task, the cell's laid over them.
        idle: dotted names of parameters, or of blocks of them, that do not count here, beside `IDLE`.
        data: digests of the data.

    Returns:
        64 hexadecimal digits.
    """
    versions = {"code": cxr_pipeline.__version__, "films": recipe.VERSION, "training": training_versions()}
    counted = {name: value for name, value in flatten(parameters).items() if not _is_below(name, (*IDLE, *idle))}
    return json_digest({"parameters": counted, "data": data, "versions": versions})


def training_digest(parameters: Mapping[str, Any], **data: object) -> str:
    """What a cell's training depends on, as a name: where it has one phase, every choice of the epoch comes out of it.

    Args:
        parameters: all parameters of the task, the cell's laid over them.
        data: digests of the data.
    """
    choice = () if _fine_tunes(parameters) else ("training.monitor",)
    return digest(parameters, idle=(*AFTER_TRAINING, *choice), **data)


def table_digest(table: pd.DataFrame) -> str:
    """Digest of the rows of a table, whatever their order."""
    return json_digest(sorted(table.astype(str).itertuples(index=False, name=None)))


def films_digests(data_report: Mapping[str, Any], splits: pd.DataFrame, *, unseen: str | None = None) -> dict[str, Any]:
    """Digests of today's films, for `digest`.

    Args:
        data_report: its ``data_digest`` and ``n_films``.
        splits: from ``assign_splits``: first the films of today, then those that are gone, which do not count.
        unseen: a split whose films do not count either; None for none.
    """
    films = splits.head(data_report["n_films"])
    return {"data": data_report["data_digest"], "splits": table_digest(films[films["split"] != unseen])}


def weights_digests(model: Mapping[str, Any], raw: Path) -> list[str | None]:
    """What is in the files of weights that a cell, or any trial of a study, starts from, see `content_digest`.

    Args:
        model: parameters of the network; of a study, a parameter that is searched over is its axis.
        raw: folder of the raw data.

    Raises:
        UserError: a file that the user has given is absent or damaged.
    """
    names, weights = (_choices(model[key]) for key in ("name", "weights"))
    return [content_digest(*network, raw) for network in itertools.product(names, weights)]


def waits(cells: Mapping[str, Mapping[str, Any]], trainings: Mapping[str, Hashable]) -> dict[str, str | None]:
    """Let cells wait for what they share: for the first of the same training, else of the same features.

    Args:
        cells: all parameters of each cell, by name.
        trainings: equal for cells whose training is the same.

    Returns:
        for each cell the one that it waits for, or None; in the order in which they are to start: first those that
        wait for none, and of these first those that others wait for.
    """
    found: dict[str, str | None] = {}
    first: dict[Hashable, str] = {}
    # Where the backbone is fine-tuned more features are kept, so that the others find theirs among them.
    for name in sorted(cells, key=lambda name: not _fine_tunes(cells[name])):
        features = _features(cells[name])
        shared = [("training", trainings[name]), *([("features", features)] if features else [])]
        firsts = [first.setdefault(key, name) for key in shared]
        found[name] = next((other for other in firsts if other != name), None)

    def depth(name: str) -> int:
        before = found[name]
        return 0 if before is None else 1 + depth(before)

    awaited = set(found.values())
    return {name: found[name] for name in sorted(cells, key=lambda name: (depth(name), name not in awaited))}


def companions(cells: Mapping[str, Mapping[str, Any]], trainings: Mapping[str, Hashable]) -> dict[str, list[str]]:
    """For each cell the metrics by which cells of the same training choose their epoch, its own among them.

    Args:
        cells: all parameters of each cell, by name.
        trainings: equal for cells whose training is the same.
    """
    found: dict[Hashable, set[str]] = {}
    for name, parameters in cells.items():
        found.setdefault(trainings[name], set()).add(str(parameters["training"]["monitor"]))
    return {name: sorted(found[trainings[name]]) for name in cells}


def forget_others(trainings: Collection[Path]) -> None:
    """Remove the checkpoints of trainings that no cell goes back to.

    Args:
        trainings: folders of those that are kept, all in one folder.
    """
    for parent in {folder.parent for folder in trainings}:
        for folder in parent.glob("*"):
            if folder not in trainings:
                shutil.rmtree(folder, ignore_errors=True)


def _features(parameters: Mapping[str, Any]) -> str | None:
    """What decides the features of a frozen backbone; None where there is none."""
    flat = flatten(parameters)
    if not is_pretrained(flat["model.name"], flat["model.weights"]):
        return None
    counted = FEATURES if flat["augmentation.views"] == 0 else (*FEATURES, "augmentation")
    return json_digest({name: value for name, value in flat.items() if _is_below(name, counted)})


def _fine_tunes(parameters: Mapping[str, Any]) -> bool:
    """Whether a training has a second phase, which begins where the choice of the epoch ends the first."""
    model, epochs = parameters["model"], parameters["training"]["fine_tuning"]["epochs"]
    return is_pretrained(model["name"], model["weights"]) and epochs > 0


def _choices(value: Any) -> Sequence[Any]:
    return value["choices"] if isinstance(value, Mapping) else [value]


def _is_below(name: str, blocks: Sequence[str]) -> bool:
    return any(f"{name}.".startswith(f"{block}.") for block in blocks)
