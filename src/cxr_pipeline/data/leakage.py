"""Checks of splits: no patient and no image in two splits, and images of each class in every split."""

import pandas as pd

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.splits import SPLITS, group_ids, join_names, patient_names


def check_splits(
    manifest: pd.DataFrame, splits: pd.DataFrame, *, exclusive: bool, task: str = "<task>", folds: int = 1
) -> None:
    """Raise an error if the splits leak, or if a split lacks images that the task needs.

    If an image has exactly one class (``exclusive``), each split needs an image of each class; otherwise, each split
    needs, for at least one class, an image with it and an image without it. The validation images of a member of a
    cross-validated ensemble are one of ``folds`` folds. The `UserError` names the patients, images
    or classes. `ValueError` is raised if an image of the manifest has no split.
    """
    _check_patients(manifest, splits, task)
    _check_contents(splits)
    _check_classes(manifest, splits, exclusive=exclusive, task=task, folds=folds)


def _check_patients(manifest: pd.DataFrame, splits: pd.DataFrame, task: str) -> None:
    known = splits[splits["patient_id"].notna()]
    leaking = known[known.groupby(["source", "patient_id"])["split"].transform("nunique") > 1]
    if leaking.empty:
        return
    rows = manifest[group_ids(manifest).isin(group_ids(leaking))]
    if rows.groupby(["source", "patient_id"])["given_split"].nunique().gt(1).any():
        advice = (
            "The source itself assigns their images to different splits. Fix the source, or ignore its splits: "
            f"--params {task}.splitting.ignore_given_split=true"
        )
    else:
        advice = f"Assign all images again; the earlier splits are kept: --params {task}.splitting.renew=true"
    names = patient_names(leaking)
    raise UserError(
        "a patient must be in one split only, or the test set does not measure performance on new patients; "
        f"{len(names)} {'patients are' if len(names) > 1 else 'patient is'} in several: {join_names(names)}. {advice}"
    )


def _check_contents(splits: pd.DataFrame) -> None:
    leaking = splits[splits.groupby("sha256")["split"].transform("nunique") > 1]
    if leaking.empty:
        return
    rows = leaking.sort_values(["sha256", "source", "image"])
    images = (rows["source"] + ": " + rows["image"] + " in " + rows["split"]).tolist()
    raise UserError(
        f"an image must be in one split only; {len(images)} images have a copy in another: {join_names(images)}. "
        "Remove one of each, or give both the same patient."
    )


def _check_classes(manifest: pd.DataFrame, splits: pd.DataFrame, *, exclusive: bool, task: str, folds: int) -> None:
    joined = manifest.merge(splits[["source", "image", "split"]], on=["source", "image"], how="left")
    if joined["split"].isna().any() or len(joined) != len(manifest):
        raise ValueError("each image of the manifest needs one row in splits")
    labels = joined.filter(regex="^label_").rename(columns=lambda column: column.removeprefix("label_"))
    n_with, n_without = (
        labels.eq(value).groupby(joined["split"]).sum().reindex(list(SPLITS), fill_value=0).astype(int)
        for value in (1, 0)
    )
    rule, patients = "each class needs an image in each split", "of each class"
    complete = (n_with > 0).all(axis=None)
    if not exclusive:
        rule = "each split needs a class with both images that have it and images that do not"
        patients = "with such a class and 3 without it"
        complete = ((n_with > 0) & (n_without > 0)).any(axis=1).all()
    if complete:
        return
    found = "; ".join(
        f"{label}: " + ", ".join(f"{split} {n}" for split, n in counts.items()) for label, counts in n_with.items()
    )
    if folds > 1:
        raise UserError(
            f"{rule}, but of {len(manifest)} images there are {found}, where validation is one of {folds} folds. Add "
            f"images, or use fewer folds: --params {task}.training.folds=1"
        )
    ignore = f", or ignore the source's own splits: --params {task}.splitting.ignore_given_split=true"
    raise UserError(
        f"{rule}, but of {len(manifest)} images there are {found}. Expected at least 3 patients {patients}, one for "
        "each split (an image without a known patient counts as one). "
        f"Add images{ignore if manifest['given_split'].notna().any() else ''}."
    )
