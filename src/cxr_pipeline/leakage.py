"""Whether splits can be trusted: nobody and nothing on two sides, each class on every side."""

import pandas as pd

from cxr_pipeline.errors import UserError
from cxr_pipeline.splits import SPLITS, group_of, listed, patient_names


def check_splits(manifest: pd.DataFrame, splits: pd.DataFrame, *, task: str = "<task>") -> None:
    """Stop if the splits leak, or if a split lacks a class.

    Args:
        manifest: the usable films.
        splits: from ``splits.assign_splits``: a row per film of the manifest, and films that are gone today.
        task: the task, for the commands that messages offer.

    Raises:
        UserError: a patient or the same content is in two splits, or a class has no film in one; names the
            patients (50 at most, and how many there are), the films or the classes.
        ValueError: a film of the manifest has no split.
    """
    _check_patients(manifest, splits, task)
    _check_contents(splits)
    _check_classes(manifest, splits, task)


def _check_patients(manifest: pd.DataFrame, splits: pd.DataFrame, task: str) -> None:
    known = splits[splits["patient_id"].notna()]
    torn = known[known.groupby(["source", "patient_id"])["split"].transform("nunique") > 1]
    if torn.empty:
        return
    theirs = manifest[group_of(manifest).isin(group_of(torn))]
    given_apart = theirs.groupby(["source", "patient_id"])["given_split"].nunique().gt(1).any()
    advice = (
        "The source itself gives their films to different splits. Mend the source, or deal all patients anew: "
        f"--params {task}.splitting.ignore_given_split=true"
        if given_apart
        else f"Delete the earlier splits ({task}.splits in the catalog, splits.parquet) to deal all films anew."
    )
    names = patient_names(torn)
    raise UserError(
        "a patient must be in one split only, or the test is no test on new patients; "
        f"{len(names)} patients are in several: {listed(names)}. {advice}"
    )


def _check_contents(splits: pd.DataFrame) -> None:
    torn = splits[splits.groupby("sha256")["split"].transform("nunique") > 1].sort_values(["sha256", "source", "image"])
    if torn.empty:
        return
    films = (torn["source"] + ": " + torn["image"] + " in " + torn["split"]).tolist()
    raise UserError(
        f"the same film must be in one split only; {len(films)} films have a copy in another: {listed(films)}. "
        "Remove one of each, or give both the same patient."
    )


def _check_classes(manifest: pd.DataFrame, splits: pd.DataFrame, task: str) -> None:
    joined = manifest.merge(splits[["source", "image", "split"]], on=["source", "image"], how="left")
    if joined["split"].isna().any() or len(joined) != len(manifest):
        raise ValueError("each film of the manifest needs one row in splits")
    labels = [str(column) for column in manifest.filter(regex="^label_").columns]
    counts = joined.groupby("split")[labels].sum().reindex(list(SPLITS), fill_value=0).astype(int)
    if (counts > 0).all(axis=None):
        return
    table = "; ".join(
        f"{label.removeprefix('label_')}: "
        + ", ".join(f"{split} {n:d}" for split, n in zip(SPLITS, counts[label], strict=True))
        for label in labels
    )
    given = bool(manifest["given_split"].notna().any())
    advice = f" or, where the source's own split is the cause, --params {task}.splitting.ignore_given_split=true"
    raise UserError(
        f"each class needs a film in each split, but of {len(manifest)} films there are {table}. Expected at least "
        f"3 patients of each class, one for each split (a film without a known patient counts as one). "
        f"Add films{advice if given else ''}."
    )
