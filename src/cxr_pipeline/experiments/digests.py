"""Digests of everything that affects a result. Only results with equal digests are reused or compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

import cxr_pipeline
from cxr_pipeline.common.mappings import flatten, json_digest
from cxr_pipeline.data.images import recipe
from cxr_pipeline.training.networks.weights import is_pretrained
from cxr_pipeline.training.settings import training_versions

# Parameters of a task that do not affect any result.
WITHOUT_EFFECT = (
    *("ablation", "drift", "parallel", "retraining", "sanity", "scoring", "subgroups", "tuning"),
    *("resolution.workers", "splitting.renew", "task.title"),
)
# Parameters that are read only after training.
AFTER_TRAINING = ("evaluation", "thresholds")
# Parameters that, with the augmentation, determine the features of a frozen backbone.
FEATURES = (
    *("resolution.size", "resolution.mode", "morphology"),
    *("model.name", "model.weights", "model.normalisation", "model.pooling", "training.fine_tuning.cut"),
)


def result_digest(parameters: Mapping[str, Any], *, without: Sequence[str] = (), **data: object) -> str:
    """Return the digest (64 hexadecimal digits) of a run's nested parameters, the digests of its data and the code.

    Parameters in the blocks ``WITHOUT_EFFECT`` and ``without``, given by their dotted names, do not count.
    """
    versions = {"code": cxr_pipeline.__version__, "images": recipe.VERSION, "training": training_versions()}
    left_out = (*WITHOUT_EFFECT, *without)
    counted = {name: value for name, value in flatten(parameters).items() if not in_blocks(name, left_out)}
    return json_digest({"parameters": counted, "data": data, "versions": versions})


def shared_digests(parameters: Mapping[str, Any], **data: object) -> tuple[str, ...]:
    """Return the digest of the training of a run, which other runs can reuse, and that of its features if it has any.

    The arguments are those of `result_digest`; only features of a frozen backbone are cached.
    """
    # A training run stores the epochs that every monitor selects.
    training = result_digest(parameters, without=(*AFTER_TRAINING, "training.monitor"), **data)
    if not is_pretrained(parameters["model"]["name"], parameters["model"]["weights"]):
        return (training,)
    blocks = FEATURES if parameters["augmentation"]["views"] == 0 else (*FEATURES, "augmentation")
    return training, json_digest({name: v for name, v in flatten(parameters).items() if in_blocks(name, blocks)})


def table_digest(table: pd.DataFrame) -> str:
    """Return a digest of the rows of a table that does not depend on their order."""
    return json_digest(sorted(table.astype(str).itertuples(index=False, name=None)))


def image_digests(
    data_report: Mapping[str, Any], splits: pd.DataFrame, *, without_split: str | None = None
) -> dict[str, Any]:
    """Return digests of the images of a run, for `result_digest`; those of ``without_split`` are left out."""
    # Removed images, which keep their split, come last.
    images = splits.head(data_report["n_images"])
    return {"data": data_report["data_digest"], "splits": table_digest(images[images["split"] != without_split])}


def fine_tunes(parameters: Mapping[str, Any]) -> bool:
    """Return whether training has a second phase."""
    model, epochs = parameters["model"], parameters["training"]["fine_tuning"]["epochs"]
    return is_pretrained(model["name"], model["weights"]) and epochs > 0


def in_blocks(name: str, blocks: Sequence[str]) -> bool:
    """Return whether a dotted name is one of these blocks or parameters, or in one of these blocks.

    Example:
        >>> in_blocks("training.epochs", ["training"]), in_blocks("training_plan", ["training"])
        (True, False)
    """
    return any(f"{name}.".startswith(f"{block}.") for block in blocks)
