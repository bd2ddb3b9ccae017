"""Train, validation and test: dealt by patient, stratified by class, and never dealt again.

The unit is the group: all images of a patient of a source, or a single image where the patient is not known.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxr_pipeline.common.errors import UserError

SPLITS = ("train", "validation", "test")
COLUMNS = ("source", "image", "sha256", "patient_id", "split")

Counts = npt.NDArray[np.int64]


def assign_splits(
    manifest: pd.DataFrame,
    ledger: pd.DataFrame,
    *,
    train: float,
    validation: float,
    test: float,
    seed: int,
    ignore_given_split: bool,
    task: str = "<task>",
) -> pd.DataFrame:
    """Give each image of the manifest its split.

    A group that the ledger knows, by its patient or by an image's content, keeps its split. Else a given split is
    kept. The other groups are dealt so that each source and class comes close to the shares, those already dealt
    included; each split gets a group of each class if there are three. Where a source gives no validation part,
    that is cut from its train part, and so is the test part where no source gives one.

    The result depends on neither the order of the rows nor, for what the ledger knows, on the seed and the shares.

    Args:
        manifest: the usable images.
        ledger: the result of earlier runs, with ``COLUMNS``; may be empty.
        train: share of the groups for training, above 0; the three shares sum to 1.
        validation: share for choosing epoch, calibration and threshold.
        test: share for the evaluation.
        seed: decides which groups go where.
        ignore_given_split: deal as if no source gave any split.
        task: the task, for the commands that messages offer.

    Returns:
        ``COLUMNS`` with a row per image of the manifest, in its order, then the rows of the ledger whose image is
        gone today, so that it keeps its split when it comes back. A patient whose images are given to two splits
        is in both: ``leakage.check_splits`` finds it.

    Raises:
        UserError: the ledger has images of one group in two splits, or contradicts a given split.
    """
    images = manifest[["source", "image", "sha256", "patient_id"]].assign(group=group_ids(manifest))
    images["earlier"] = _earlier_splits(images, ledger, task)
    images["given"] = None if ignore_given_split else manifest["given_split"]
    images["stratum"] = _strata(manifest)
    groups = _groups(images)
    _check_given(groups, task)
    shares = dict(zip(SPLITS, (train, validation, test), strict=True))
    dealt = groups["earlier"].astype("str")
    any_test = bool((groups["given"] == "test").any())
    for (source, given, _), pool in groups.fillna({"given": ""}).groupby(["source", "given", "stratum"]):
        allowed = _allowed(str(given), set(groups.loc[groups["source"] == source, "given"].dropna()), any_test)
        dealt.update(_deal(pool["earlier"], allowed, [shares[split] for split in allowed], seed))
    split = images["group"].map(dealt)
    torn = images["group"].map(groups["n_given"]) > 1
    images["split"] = images["given"].where(torn & images["given"].notna(), split)
    return pd.concat([images[list(COLUMNS)], _gone(images, ledger)], ignore_index=True).astype("str")


def group_ids(images: pd.DataFrame) -> "pd.Series[str]":
    """Name the group of each image: its source and patient, or its content where the patient is not known.

    Args:
        images: rows with ``source``, ``patient_id`` and ``sha256``.

    Returns:
        one text a row, equal for images of the same group.
    """
    patient = images["source"].astype("str") + "\x1f" + images["patient_id"].astype("str")
    return patient.where(images["patient_id"].notna(), "\x1f" + images["sha256"].astype("str"))


def select_split(manifest: pd.DataFrame, splits: pd.DataFrame, split: str) -> pd.DataFrame:
    """Take the images of one split.

    Args:
        manifest: the usable images.
        splits: from ``assign_splits``.
        split: ``train``, ``validation`` or ``test``.

    Returns:
        rows of the manifest, in its order, with a new index.
    """
    chosen = splits.loc[splits["split"] == split, ["source", "image"]]
    return manifest.merge(chosen, on=["source", "image"], how="inner", validate="one_to_one")


def count_splits(
    manifest: pd.DataFrame, splits: pd.DataFrame, classes: Sequence[str]
) -> dict[str, dict[str, int | None]]:
    """Count what each split holds.

    Args:
        manifest: the usable images.
        splits: from ``assign_splits``.
        classes: the classes of the task.

    Returns:
        for each split the images known to have each class, ``images`` in all, and ``patients``: how many are known, None
        where none is.
    """
    counts: dict[str, dict[str, int | None]] = {}
    for split in SPLITS:
        images = select_split(manifest, splits, split)
        n_patients = len(images[["source", "patient_id"]].dropna().drop_duplicates())
        n_images = {name: int(images[f"label_{name}"].eq(1).sum()) for name in classes}
        counts[split] = {**n_images, "images": len(images), "patients": n_patients or None}
    return counts


def count_sources(manifest: pd.DataFrame, splits: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Count the images of each source in each split.

    Args:
        manifest: the usable images.
        splits: from ``assign_splits``.

    Returns:
        for each source, in the order of the manifest, the images of each of ``SPLITS``, 0 where it has none.
    """
    sources = {split: select_split(manifest, splits, split)["source"] for split in SPLITS}
    return {
        str(name): {split: int((images == name).sum()) for split, images in sources.items()}
        for name in manifest["source"].unique()
    }


def _earlier_splits(images: pd.DataFrame, ledger: pd.DataFrame, task: str) -> "pd.Series[str]":
    """Look each image's group up in the ledger: by patient, by content, and a lone image by its name at last."""
    known = ledger.assign(group=group_ids(ledger)).astype("str")
    by_group = images["group"].map(known.drop_duplicates("group").set_index("group")["split"])
    by_content = images["sha256"].map(known.drop_duplicates("sha256").set_index("sha256")["split"])
    found = [images[["group"]].assign(split=split) for split in (by_group, by_content)]
    said = pd.concat([*found, known[known["group"].isin(images["group"])]]).groupby("group")["split"]
    torn = images["group"].isin(said.nunique().loc[lambda n_splits: n_splits > 1].index)
    if torn.any():
        patients = patient_names(images[torn])
        raise UserError(
            f"earlier runs put images of one patient into different splits, for {len(patients)} patients: "
            f"{join_names(patients)}. That happens when patient ids were changed after the images had "
            f"been dealt. To deal all images anew, delete the earlier splits ({task}.splits in the catalog, "
            "splits.parquet); results are then not comparable with earlier ones."
        )
    names = known.set_index(["source", "image"])["split"]
    by_name = names.reindex(pd.MultiIndex.from_frame(images[["source", "image"]])).set_axis(images.index)
    return images["group"].map(said.first()).fillna(by_name.where(images["patient_id"].isna()))


def patient_names(images: pd.DataFrame) -> list[str]:
    """Name the patients of images for a message, ``source/patient``; an image without a known one by its image."""
    names = images["source"] + "/" + images["patient_id"].fillna(images["image"])
    return sorted(names.unique())


def join_names(names: Sequence[str], limit: int = 50) -> str:
    """Write the first ``limit`` names out for a message, and how many more there are.

    Example:
        >>> join_names(["nih/7", "nih/8", "nih/9"], limit=2)
        'nih/7, nih/8 and 1 more'
    """
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return f"{', '.join(names[:limit])}{more}"


def rarest_first(labels: pd.DataFrame) -> pd.DataFrame:
    """Order label columns by how many images have them, the fewest first; of equals the last comes first."""
    order = labels.eq(1).sum().iloc[::-1].sort_values(kind="stable").index
    return labels[order]


def _strata(manifest: pd.DataFrame) -> "pd.Series[int]":
    """Give each image the rank of its rarest class, the rarest first; an image without any comes last."""
    has = rarest_first(manifest.filter(regex="^label_")).eq(1).to_numpy()
    ranks = np.where(has.any(axis=1), has.argmax(axis=1), has.shape[1])
    return pd.Series(ranks, index=manifest.index, dtype="int64")


def _groups(images: pd.DataFrame) -> pd.DataFrame:
    """One row a group; its stratum is the rarest class that any of its images has."""
    by_group = images.groupby("group")
    groups = by_group[["source", "image", "patient_id", "earlier", "given"]].first()
    return groups.assign(n_given=by_group["given"].nunique(), stratum=by_group["stratum"].min())


def _check_given(groups: pd.DataFrame, task: str) -> None:
    """Refuse a group that an earlier run used for something else than its source now gives it to."""
    kept_apart = groups["given"].isin(["validation", "test"]) & (groups["n_given"] == 1)
    moved = groups[kept_apart & groups["earlier"].notna() & (groups["earlier"] != groups["given"])]
    if len(moved):
        raise UserError(
            f"earlier runs used images of {len(moved)} patients for another split than the source now gives them to: "
            f"{join_names(patient_names(moved))}. To keep the earlier splits: --params {task}.splitting."
            f"ignore_given_split=true. To follow the source, delete the earlier splits ({task}.splits in the catalog, "
            "splits.parquet); results are then not comparable with earlier ones."
        )


def _allowed(given: str, source_gives: set[str], any_test: bool) -> list[str]:
    """Tell which splits a group may be dealt to, by what its source gives it and gives at all."""
    if not given:
        return list(SPLITS)
    if given != "train":
        return [given]
    cut = {"validation"} - source_gives | (set() if any_test else {"test"})
    return [split for split in SPLITS if split == "train" or split in cut]


def _deal(earlier: "pd.Series[str]", allowed: Sequence[str], shares: Sequence[float], seed: int) -> "pd.Series[str]":
    """Deal the groups without an earlier split so that all groups together come close to the shares."""
    new = sorted(earlier.index[earlier.isna()], key=lambda group: _order(seed, group))
    have = np.array([(earlier == split).sum() for split in allowed], dtype=np.int64)
    wanted = _quotas(int(have.sum()) + len(new), np.array(shares) / sum(shares))
    need = np.maximum(wanted - have, 0)
    while need.sum() > len(new):
        need[need.argmax()] -= 1
    return pd.Series(np.repeat(np.array(allowed, dtype=object), need), index=new, dtype="str")


def _order(seed: int, group: str) -> bytes:
    return hashlib.blake2b(f"{seed}\x1f{group}".encode(), digest_size=16).digest()


def _quotas(n: int, shares: npt.NDArray[np.float64]) -> Counts:
    """Round ``n`` times the shares to whole numbers with sum ``n``, none of them 0 if ``n`` suffices."""
    quotas: Counts = np.floor(n * shares).astype(np.int64)
    rest = n * shares - quotas
    quotas[np.argsort(-rest, kind="stable")[: n - quotas.sum()]] += 1
    while n >= len(quotas) and quotas.min() == 0:
        quotas[quotas.argmax()] -= 1
        quotas[quotas.argmin()] += 1
    return quotas


def _gone(images: pd.DataFrame, ledger: pd.DataFrame) -> pd.DataFrame:
    """Rows of the ledger whose image is in the manifest neither by content nor by name."""
    names = pd.MultiIndex.from_frame(images[["source", "image"]])
    there = pd.MultiIndex.from_frame(ledger[["source", "image"]].astype("str")).isin(names)
    return ledger.loc[~there & ~ledger["sha256"].isin(images["sha256"]).to_numpy(), list(COLUMNS)]
