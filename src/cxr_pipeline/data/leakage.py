"""Whether splits can be trusted: nobody and nothing on two sides, each class on every side."""

import pandas as pd

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.splits import SPLITS, group_ids, join_names, patient_names


def check_splits(manifest: pd.DataFrame, splits: pd.DataFrame, *, exclusive: bool, task: str = "<task>") -> None:
    """Stop if the splits leak, or if a split lacks what the task wants told apart.

    Args:
        manifest: the usable images.
        splits: from ``splits.assign_splits``: a row per image of the manifest, and images that are gone today.
        exclusive: whether an image has one class and no more. Then each split needs an image of each class; else it needs
            for one class at least both an image with it and one without.
        task: the task, for the commands that messages offer.

    Raises:
        UserError: a patient or the same content is in two splits, or a split lacks images; names the patients (50 at
            most, and how many there are), the images or the classes.
        ValueError: an image of the manifest has no split.
    """
    _check_patients(manifest, splits, task)
    _check_contents(splits)
    _check_classes(manifest, splits, exclusive=exclusive, task=task)


def _check_patients(manifest: pd.DataFrame, splits: pd.DataFrame, task: str) -> None:
    known = splits[splits["patient_id"].notna()]
    torn = known[known.groupby(["source", "patient_id"])["split"].transform("nunique") > 1]
    if torn.empty:
        return
    theirs = manifest[group_ids(manifest).isin(group_ids(torn))]
    given_apart = theirs.groupby(["source", "patient_id"])["given_split"].nunique().gt(1).any()
    advice = (
        "The source itself gives their images to different splits. Mend the source, or deal all patients anew: "
        f"--params {task}.splitting.ignore_given_split=true"
        if given_apart
        else f"Delete the earlier splits ({task}.splits in the catalog, splits.parquet) to deal all images anew."
    )
    names = patient_names(torn)
    raise UserError(
        "a patient must be in one split only, or the test is no test on new patients; "
        f"{len(names)} patients are in several: {join_names(names)}. {advice}"
    )


def _check_contents(splits: pd.DataFrame) -> None:
    torn = splits[splits.groupby("sha256")["split"].transform("nunique") > 1].sort_values(["sha256", "source", "image"])
    if torn.empty:
        return
    images = (torn["source"] + ": " + torn["image"] + " in " + torn["split"]).tolist()
    raise UserError(
        f"the same image must be in one split only; {len(images)} images have a copy in another: {join_names(images)}. "
        "Remove one of each, or give both the same patient."
    )


def _check_classes(manifest: pd.DataFrame, splits: pd.DataFrame, *, exclusive: bool, task: str) -> None:
    joined = manifest.merge(splits[["source", "image", "split"]], on=["source", "image"], how="left")
    if joined["split"].isna().any() or len(joined) != len(manifest):
        raise ValueError("each image of the manifest needs one row in splits")
    labels = [str(column) for column in manifest.filter(regex="^label_").columns]
    n_with, n_without = (
        joined[labels].eq(value).groupby(joined["split"]).sum().reindex(list(SPLITS), fill_value=0).astype(int)
        for value in (1, 0)
    )
    if exclusive and (n_with > 0).all(axis=None):
        return
    if not exclusive and ((n_with > 0) & (n_without > 0)).any(axis=1).all():
        return
    wanted = (
        "each class needs an image in each split"
        if exclusive
        else "each split needs a class with both images that have it and images that do not"
    )
    patients = "of each class" if exclusive else "with such a class and 3 without it"
    given = bool(manifest["given_split"].notna().any())
    advice = f" or, where the source's own split is the cause, --params {task}.splitting.ignore_given_split=true"
    raise UserError(
        f"{wanted}, but of {len(manifest)} images there are {_table(n_with)}. Expected at least 3 patients {patients}, "
        f"one for each split (an image without a known patient counts as one). Add images{advice if given else ''}."
    )


def _table(counts: pd.DataFrame) -> str:
    """``"well: train 7, validation 2, test 1; ill: ..."``."""
    return "; ".join(
        f"{str(label).removeprefix('label_')}: "
        + ", ".join(f"{split} {n:d}" for split, n in zip(SPLITS, counts[label], strict=True))
        for label in counts.columns
    )
