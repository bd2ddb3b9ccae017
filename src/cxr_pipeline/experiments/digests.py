"""What the result of a cell or of a study depends on, as a name: only equals are taken over, and compared."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

import cxr_pipeline
from cxr_pipeline.common.mappings import flatten, json_digest
from cxr_pipeline.data.images import recipe
from cxr_pipeline.training.networks.weights import content_digest, is_pretrained
from cxr_pipeline.training.versions import training_versions

# Of the parameters of a task, those that no cell's result depends on.
IDLE = (
    *("ablation", "drift", "parallel", "retraining", "sanity", "scoring", "subgroups", "tuning"),
    *("resolution.workers", "task.title"),
)
# Those that no training depends on.
AFTER_TRAINING = ("evaluation", "thresholds")


def digest(parameters: Mapping[str, Any], *, idle: Sequence[str] = (), **data: object) -> str:
    """What a cell's result depends on, as a name: its parameters, the images and the versions of the code.

    Args:
        parameters: all parameters of the task, the cell's laid over them.
        idle: dotted names of parameters, or of blocks of them, that do not count here, beside `IDLE`.
        data: digests of the data.

    Returns:
        64 hexadecimal digits.
    """
    versions = {"code": cxr_pipeline.__version__, "images": recipe.VERSION, "training": training_versions()}
    counted = {name: value for name, value in flatten(parameters).items() if not is_below(name, (*IDLE, *idle))}
    return json_digest({"parameters": counted, "data": data, "versions": versions})


def training_digest(parameters: Mapping[str, Any], **data: object) -> str:
    """What a cell's training depends on, as a name: where it has one phase, every choice of the epoch comes out of it.

    Args:
        parameters: all parameters of the task, the cell's laid over them.
        data: digests of the data.
    """
    choice = () if fine_tunes(parameters) else ("training.monitor",)
    return digest(parameters, idle=(*AFTER_TRAINING, *choice), **data)


def table_digest(table: pd.DataFrame) -> str:
    """Digest of the rows of a table, whatever their order."""
    return json_digest(sorted(table.astype(str).itertuples(index=False, name=None)))


def images_digests(
    data_report: Mapping[str, Any], splits: pd.DataFrame, *, unseen: str | None = None
) -> dict[str, Any]:
    """Digests of today's images, for `digest`.

    Args:
        data_report: its ``data_digest`` and ``n_images``.
        splits: from ``assign_splits``: first the images of today, then those that are gone, which do not count.
        unseen: a split whose images do not count either; None for none.
    """
    images = splits.head(data_report["n_images"])
    return {"data": data_report["data_digest"], "splits": table_digest(images[images["split"] != unseen])}


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


def fine_tunes(parameters: Mapping[str, Any]) -> bool:
    """Whether a training has a second phase, which begins where the choice of the epoch ends the first."""
    model, epochs = parameters["model"], parameters["training"]["fine_tuning"]["epochs"]
    return is_pretrained(model["name"], model["weights"]) and epochs > 0


def is_below(name: str, blocks: Sequence[str]) -> bool:
    """Whether a dotted name is one of these, or of a parameter in one of these blocks."""
    return any(f"{name}.".startswith(f"{block}.") for block in blocks)


def _choices(value: Any) -> Sequence[Any]:
    return value["choices"] if isinstance(value, Mapping) else [value]
