"""Leakage through pretraining: test images that a pretrained network may have been trained on."""

import re
from collections.abc import Collection, Mapping
from pathlib import Path

import pandas as pd

from cxr_pipeline.common.files import explain_damage
from cxr_pipeline.data.collections import fetched_collection
from cxr_pipeline.data.splits import group_ids, select_split

# Collections with images of another one. RSNA 2018: Shih et al., Radiology: Artificial Intelligence 2019, 1(1):e180041;
# Google: Majkowska et al., Radiology 2020, 294:421; ChestMNIST and PneumoniaMNIST: Yang et al., Scientific Data 2023,
# 10:41. SIIM-ACR Pneumothorax is commonly said to have NIH images.
_ORIGINS = {"rsna": "nih", "google": "nih", "siim": "nih", "chestmnist": "nih", "pneumoniamnist": "kermany"}


def origin(collection: str) -> str:
    """Return the collection from which the images of a collection are.

    Example:
        >>> origin("chestmnist_224"), origin("RSNA"), origin("chexpert")
        ('nih', 'nih', 'chexpert')
    """
    name = re.sub(r"_\d+$", "", collection.lower())
    return _ORIGINS.get(name, name)


def collection_of(layout: str, path: Path) -> str | None:
    """Return the collection from which the images of a source are; None if it is not known."""
    if layout in ("nih", "chexpert", "phantoms"):
        return layout
    collection = fetched_collection(path)
    return None if collection is None else origin(collection.name)


def shared_sources(trained_on: Collection[str], collections: Mapping[str, str | None]) -> list[str]:
    """Return the sources that may have images of the collections that a network was trained on.

    ``collections`` has the collection of each source, None if it is not known.
    """
    origins = {origin(name) for name in trained_on}
    return [
        source for source, collection in collections.items() if origins and (not collection or collection in origins)
    ]


def seen_images(
    manifest: pd.DataFrame,
    splits: pd.DataFrame,
    *,
    sources: Collection[str],
    images: Collection[str] = (),
    patients: Collection[str] = (),
) -> list[str]:
    """Return the SHA-256 of the test images that are in a list of training images, or of a patient who is.

    Args:
        manifest: all images.
        splits: their splits.
        sources: sources to which the lists apply.
        images: file names without folders, or SHA-256, of training images.
        patients: identifiers of their patients; leading zeros do not count.
    """
    names = manifest["image"].astype("str").str.rpartition("/")[2]
    numbers = manifest["patient_id"].astype("str").str.lstrip("0")
    listed = names.isin(set(images)) | manifest["sha256"].isin(set(images))
    listed |= manifest["patient_id"].notna() & numbers.isin({patient.lstrip("0") for patient in patients})
    groups = group_ids(manifest)
    seen = manifest[groups.isin(groups[listed & manifest["source"].isin(set(sources))])]
    test = select_split(manifest, splits, "test")
    return sorted(test.loc[test["sha256"].isin(seen["sha256"]), "sha256"].tolist())


def read_list(file: Path) -> set[str]:
    """Read a text file with one name in a line; folders before a name and text after a comma do not count.

    `UserError` is raised if it cannot be read.
    """
    with explain_damage(file, "Expected a text file with one name in each line."):
        lines = file.read_text("utf-8-sig").splitlines()
    names = (line.partition(",")[0].strip().replace("\\", "/").rpartition("/")[2] for line in lines)
    return {name for name in names if name}
