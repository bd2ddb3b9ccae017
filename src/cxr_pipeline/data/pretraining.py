"""Leakage through pretraining: images of a task that a pretrained network may have been trained on."""

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.common.files import explain_damage
from cxr_pipeline.data.collections import fetched_collection
from cxr_pipeline.data.splits import group_ids

# The collection from which the images of others are, by the beginning of their names without digits and punctuation.
# RSNA 2018: Shih et al., Radiology: Artificial Intelligence 2019, 1(1):e180041; Google: Majkowska et al., Radiology
# 2020, 294:421; ChestMNIST and PneumoniaMNIST: Yang et al., Scientific Data 2023, 10:41. SIIM-ACR Pneumothorax is
# commonly said to have NIH images.
_ORIGINS = {
    **dict.fromkeys(("nih", "chestxray", "cxr", "rsna", "google", "siim", "chestmnist"), "nih"),
    **dict.fromkeys(("kermany", "pneumoniamnist"), "kermany"),
    "chexpert": "chexpert",
    "mimic": "mimic",
    "vindr": "vindr",
}


def origin(collection: str) -> str:
    """Return the collection from which the images of a collection are.

    Example:
        >>> origin("chestmnist_224"), origin("RSNA 2018"), origin("CheXpert-v1.0"), origin("PadChest")
        ('nih', 'nih', 'chexpert', 'padchest')
    """
    name = re.sub(r"[^a-z]", "", collection.lower())
    return next((found for start, found in _ORIGINS.items() if name.startswith(start)), name)


def collection_of(layout: str, path: Path) -> str | None:
    """Return the collection from which the images of a source are; None if it is not known."""
    if layout in ("nih", "chexpert", "phantoms"):
        return layout
    collection = fetched_collection(path)
    return None if collection is None else origin(collection.name)


def shared_sources(trained_on: Collection[str], collections: Mapping[str, str | None]) -> list[str]:
    """Return the sources that may have images of the collections that a network was trained on.

    ``collections`` has the collection of each source, None if it is not known. If it is not known what the network was
    trained on, any source may have images of it, except generated ones.
    """
    origins = {origin(name) for name in trained_on}
    return [
        source
        for source, collection in collections.items()
        if collection in {None, *origins} or (not origins and collection != "phantoms")
    ]


def listed_images(
    manifest: pd.DataFrame, *, images: Collection[str] = (), patients: Collection[str] = ()
) -> "pd.Series[bool]":
    """Return for each image of the manifest whether it is in a list of training images, or of a patient who is.

    Args:
        manifest: images.
        images: paths, of which folders at the beginning may differ, or SHA-256, of training images.
        patients: identifiers of their patients; leading zeros do not count.

    Raises:
        UserError: a name without a folder is that of several images of a source.
    """
    paths = manifest["image"].astype("str")
    names = paths.str.rpartition("/")[2]
    with_folder = {entry for entry in images if "/" in entry}
    by_name = names.isin(set(images) - with_folder)
    if (repeated := manifest.loc[by_name, ["source"]].assign(name=names[by_name]).duplicated()).any():
        raise UserError(
            f"The list of training images names {names[repeated.index[repeated][0]]}, but several images of a source "
            "have this name. List paths with their folders, or SHA-256."
        )
    ends = {end for entry in with_folder for end in _ends(entry)}
    by_path = paths.isin(ends) | paths.map(lambda path: not with_folder.isdisjoint(_ends(path))).astype(bool)
    listed = by_name | by_path | manifest["sha256"].isin({entry.lower() for entry in images})
    numbers = manifest["patient_id"].astype("str").str.lstrip("0")
    listed |= manifest["patient_id"].notna() & numbers.isin({patient.lstrip("0") for patient in patients})
    groups = group_ids(manifest)
    return groups.isin(groups[listed])


def without_seen(images: pd.DataFrame, pretraining: Mapping[str, Any]) -> pd.DataFrame:
    """Return images without the test images that were seen in pretraining."""
    return images[~images["sha256"].isin(pretraining.get("seen", []))]


def read_list(file: Path) -> set[str]:
    """Read a text file with a name in each line, or a CSV file with names in its first column.

    `UserError` is raised if it cannot be read or has no name.
    """
    expected = "Expected a text file in UTF-8 with one name in each line."
    with explain_damage(file, expected):
        lines = file.read_text("utf-8-sig").splitlines()
        names = (line.partition(",")[0].strip().strip("\"'").replace("\\", "/").strip("/") for line in lines)
        if not (found := {name for name in names if name}):
            raise ValueError("it is empty")
    return found


def _ends(path: str) -> Iterator[str]:
    """Yield a path without the folders at its beginning, from all to none of them."""
    parts = path.split("/")
    return ("/".join(parts[start:]) for start in range(len(parts)))
