"""Splits into train, validation and test: by patient, stratified by class, and never changed.

The unit is the group: all images of a patient of a source, or a single image if the patient is unknown.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxr_pipeline.common.errors import UserError

SPLITS = ("train", "validation", "test")
COLUMNS = ("source", "image", "sha256", "patient_id", "split", "fold_order")


def assign_splits(
    manifest: pd.DataFrame,
    registry: pd.DataFrame,
    *,
    train: float,
    validation: float,
    test: float,
    seed: int,
    ignore_given_split: bool,
    task: str = "<task>",
) -> pd.DataFrame:
    """Assign each image of the manifest to a split.

    A group in the split registry (the result of earlier runs), recognised by its patient or by the content of an image,
    keeps its split. Any other group whose source gives a split gets that split, unless ``ignore_given_split``. The
    remaining groups are assigned so that each source and class comes close to the shares, which sum to 1, counting the
    groups assigned earlier; each split gets a group of each class if there are at least three. Which groups a split
    gets is chosen so that its images come close to its share as well. If a source gives no validation set, it is taken
    from its training set, as is the test set if no source gives one.

    Each group also gets a ``fold_order``, which assigns it to a fold of any cross-validation, see `member_splits`, and
    which it keeps as data grows.

    The result, as of ``with_gone_images``, does not depend on the order of the rows nor, for groups in the registry, on
    the seed and the shares. A patient whose source gives two splits is in both, which ``leakage.check_splits`` reports.
    `UserError` is raised if the registry has images of one group in two splits, or contradicts a given split.
    """
    registry = registry.reindex(columns=list(COLUMNS))
    images = manifest[["source", "image", "sha256", "patient_id"]].assign(group=group_ids(manifest))
    images["earlier"] = _earlier_splits(images, registry, task)
    images["given"] = None if ignore_given_split else manifest["given_split"]
    by_group = images.groupby("group")
    groups = by_group[["source", "image", "patient_id", "earlier", "given"]].first()
    groups = groups.assign(
        n_images=by_group.size(), n_given=by_group["given"].nunique(), stratum=_strata(manifest, images["group"])
    )
    _check_given(groups, task)
    shares = dict(zip(SPLITS, (train, validation, test), strict=True))
    assigned = groups["earlier"].astype("str")
    for (source, given, _), pool in groups.fillna({"given": ""}).groupby(["source", "given", "stratum"]):
        allowed = list(SPLITS) if given in ("", "train") else [str(given)]
        if given == "train":
            if "validation" in groups.loc[groups["source"] == source, "given"].to_numpy():
                allowed.remove("validation")
            if "test" in groups["given"].to_numpy():
                allowed.remove("test")
        assigned.update(_assign_new(pool, {split: shares[split] for split in allowed}, seed))
    conflicting = (images["group"].map(groups["n_given"]) > 1) & images["given"].notna()
    images["split"] = images["given"].where(conflicting, images["group"].map(assigned))
    orders = _fold_orders(groups.assign(split=assigned, earlier=_earlier_orders(images, registry)), registry, seed)
    return with_gone_images(images.assign(fold_order=images["group"].map(orders)), registry)


def member_splits(splits: pd.DataFrame, folds: int) -> list[pd.DataFrame]:
    """Return the splits from which each member of a cross-validated ensemble is trained.

    With one fold, these are the given splits. With k folds, the images outside the test set are divided into k folds by
    their patients, source and class by source and class. Member i is validated on fold i and trained on the others, so
    that the validation sets of all members have every image once. `UserError` is raised if there are fewer patients
    than folds.

    Example:
        >>> splits = pd.DataFrame({"split": ["train", "validation", "train", "test"], "fold_order": [0, 1, 2, 3]})
        >>> [member["split"].tolist() for member in member_splits(splits, 2)]
        [['validation', 'train', 'validation', 'test'], ['train', 'validation', 'train', 'test']]
    """
    if folds == 1:
        return [splits]
    fold, development = splits["fold_order"] % folds, splits["split"] != "test"
    if (n_filled := fold[development].nunique()) < folds:
        raise UserError(
            f"training.folds is {folds}, but the patients outside the test set fill only {n_filled} folds. Use at most "
            f"{n_filled}, or 1 for a single network."
        )
    roles = [np.where(fold == member, "validation", "train") for member in range(folds)]
    return [splits.assign(split=splits["split"].mask(development, role)) for role in roles]


def trained_on(splits: pd.DataFrame, folds: int) -> pd.DataFrame:
    """Return the splits in which the images that any member of an ensemble was trained on are training images."""
    return splits if folds == 1 else splits.assign(split=splits["split"].replace("validation", "train"))


def with_gone_images(images: pd.DataFrame, registry: pd.DataFrame) -> pd.DataFrame:
    """Return ``COLUMNS`` of images, then of the registry's images that are gone, which keep their splits.

    An image is gone if neither its content nor its name is in the table.
    """
    registry = registry.reindex(columns=list(COLUMNS))  # one of an earlier version of this package has no fold_order
    names = pd.MultiIndex.from_frame(images[["source", "image"]])
    present = pd.MultiIndex.from_frame(registry[["source", "image"]].astype("str")).isin(names)
    gone = registry[~present & ~registry["sha256"].isin(images["sha256"]).to_numpy()]
    table = pd.concat([images[list(COLUMNS)], gone[list(COLUMNS)]], ignore_index=True)
    groups = group_ids(table)
    orders = table["fold_order"].astype("float64").groupby(groups).transform("min")
    if (unknown := orders.isna()).any():
        orders[unknown] = pd.factorize(groups[unknown])[0] + (0 if unknown.all() else orders.max() + 1)
    table["fold_order"] = orders
    return table.astype({**dict.fromkeys(COLUMNS, "str"), "fold_order": "int64"})


def group_ids(images: pd.DataFrame) -> "pd.Series[str]":
    """Return the group of each image: its source and patient, or its content if the patient is unknown."""
    patient = images["source"].astype("str") + "\x1f" + images["patient_id"].astype("str")
    return patient.where(images["patient_id"].notna(), "\x1f" + images["sha256"].astype("str"))


def registered_splits(
    images: pd.DataFrame, registry: pd.DataFrame, column: str = "split"
) -> tuple["pd.Series[Any]", "pd.Series[Any]"]:
    """Look up the split of each image's group and that of its content in the split registry; null if new."""
    known = registry.assign(group=group_ids(registry))
    by_group = group_ids(images).map(known.drop_duplicates("group").set_index("group")[column])
    by_content = images["sha256"].map(known.drop_duplicates("sha256").set_index("sha256")[column])
    return by_group, by_content


def select_split(manifest: pd.DataFrame, splits: pd.DataFrame, split: str) -> pd.DataFrame:
    """Return the rows of the manifest in one split, in their order."""
    chosen = splits.loc[splits["split"] == split, ["source", "image"]]
    return manifest.merge(chosen, on=["source", "image"], how="inner", validate="one_to_one")


def count_splits(
    manifest: pd.DataFrame, splits: pd.DataFrame, classes: Sequence[str]
) -> dict[str, dict[str, int | None]]:
    """Count in each split the images known to have each class, all ``images``, and known ``patients``.

    ``effective_patients`` is the `effective_number` of patients by their images. Both are None if no patient is known.
    """
    counts: dict[str, dict[str, int | None]] = {}
    for split in SPLITS:
        rows = select_split(manifest, splits, split)
        n_images = {name: int(rows[f"label_{name}"].eq(1).sum()) for name in classes}
        n_patients = count_patients(rows) or None
        n_effective = n_patients and round(effective_number(group_ids(rows).value_counts().to_numpy()))
        counts[split] = {**n_images, "images": len(rows), "patients": n_patients, "effective_patients": n_effective}
    return counts


def count_sources(manifest: pd.DataFrame, splits: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Count the images of each source, in the order of the manifest, in each split."""
    joined = manifest[["source", "image"]].merge(splits[["source", "image", "split"]], on=["source", "image"])
    counts = pd.crosstab(joined["source"], joined["split"]).reindex(columns=list(SPLITS), fill_value=0)
    return {str(name): counts.loc[name].to_dict() for name in manifest["source"].unique()}


def count_patients(images: pd.DataFrame) -> int:
    """Return the number of known patients."""
    return len(images[["source", "patient_id"]].dropna().drop_duplicates())


def effective_number(counts: npt.NDArray[np.number]) -> float:
    """Compute Kish's effective number of patients from their counts or weights [patients]; 0 if all are 0.

    Reference: L. Kish, "Survey sampling", 1965, section 11.7.

    Example:
        >>> effective_number(np.array([3, 3, 0])), round(effective_number(np.array([98, 1, 1])), 2)
        (2.0, 1.04)
    """
    squares = float(np.square(counts).sum())
    return float(counts.sum() ** 2 / squares) if squares else 0.0


def patient_names(images: pd.DataFrame) -> list[str]:
    """Return the names of patients for messages, ``source/patient``; the image's name if the patient is unknown."""
    names = images["source"] + "/" + images["patient_id"].fillna(images["image"])
    return sorted(names.unique())


def join_names(names: Sequence[str], limit: int = 10) -> str:
    """Join the first ``limit`` names for a message, followed by the number of the others."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return f"{', '.join(names[:limit])}{more}"


def rarest_first(labels: pd.DataFrame) -> pd.DataFrame:
    """Order label columns by their number of images, the fewest first; of equals the last column is first."""
    order = labels.eq(1).sum().iloc[::-1].sort_values(kind="stable").index
    return labels[order]


def _earlier_splits(images: pd.DataFrame, registry: pd.DataFrame, task: str) -> "pd.Series[str]":
    """Look up the split of each image's group: by patient, by content, and for images without patient by name."""
    known = registry.assign(group=group_ids(registry)).astype("str")
    found = [images[["group"]].assign(split=split) for split in registered_splits(images, registry)]
    splits = pd.concat([*found, known[known["group"].isin(images["group"])]]).groupby("group")["split"]
    conflicting = images["group"].isin(splits.nunique().loc[lambda n_splits: n_splits > 1].index)
    if conflicting.any():
        patients = patient_names(images[conflicting])
        raise UserError(
            f"earlier runs assigned images of one patient to different splits (05_model_input/{task}/splits.parquet in "
            f"the data folder), for {len(patients)} patients: {join_names(patients)}. This happens when patient ids "
            "are added or change later. To assign all images again and keep the earlier splits aside: --params "
            f"{task}.splitting.renew=true. Results are then not comparable with earlier ones."
        )
    names = known.set_index(["source", "image"])["split"]
    by_name = names.reindex(pd.MultiIndex.from_frame(images[["source", "image"]])).set_axis(images.index)
    return images["group"].map(splits.first()).fillna(by_name.where(images["patient_id"].isna()))


def _earlier_orders(images: pd.DataFrame, registry: pd.DataFrame) -> "pd.Series[float]":
    """Look up the fold order of each group, the lowest if its images have several; NaN if new."""
    found = pd.concat(registered_splits(images, registry, "fold_order"), axis=1).astype("float64")
    return found.min(axis=1).groupby(images["group"]).min()


def _fold_orders(groups: pd.DataFrame, registry: pd.DataFrame, seed: int) -> "pd.Series[int]":
    """Number the groups without a fold order: first those outside the test set, by source, class and size.

    The numbers of the groups of a source and class are consecutive, so that any number of folds gets equal shares.
    """
    new = groups[groups["earlier"].isna()]
    order = pd.DataFrame({"test": new["split"] == "test", **new[["source", "stratum"]], "size": -new["n_images"]})
    order["hash"] = [_hash(seed, group) for group in new.index]
    first = 0 if registry["fold_order"].isna().all() else int(registry["fold_order"].max()) + 1
    numbers = pd.Series(np.arange(first, first + len(new)), order.sort_values(list(order.columns)).index)
    return groups["earlier"].fillna(numbers).astype("int64")


def _hash(seed: int, group: str) -> bytes:
    return hashlib.blake2b(f"{seed}\x1f{group}".encode(), digest_size=16).digest()


def _strata(manifest: pd.DataFrame, groups: "pd.Series[str]") -> "pd.Series[int]":
    """Return the stratum of each group: the rarest class that any of its images has."""
    has = rarest_first(manifest.filter(regex="^label_")).eq(1).groupby(groups).any()
    ranks = np.where(has.any(axis=1), has.to_numpy().argmax(axis=1), has.shape[1])
    return pd.Series(ranks, has.index, dtype="int64")


def _check_given(groups: pd.DataFrame, task: str) -> None:
    held_out = groups["given"].isin(["validation", "test"]) & (groups["n_given"] == 1)
    moved = groups[held_out & groups["earlier"].notna() & (groups["earlier"] != groups["given"])]
    if len(moved):
        raise UserError(
            f"earlier runs used images of {len(moved)} patients for another split than the source now gives: "
            f"{join_names(patient_names(moved))}. To keep the earlier splits: --params {task}.splitting."
            f"ignore_given_split=true. To follow the source: --params {task}.splitting.renew=true; results are then "
            "not comparable with earlier ones."
        )


def _assign_new(pool: pd.DataFrame, shares: dict[str, float], seed: int) -> "pd.Series[str]":
    """Assign the groups without an earlier split so that all groups, and their images, come close to the shares."""

    def key(group: str) -> tuple[int, bytes]:
        return -n_images[group], _hash(seed, group)

    earlier, n_images = pool["earlier"], pool["n_images"].to_dict()
    new = sorted(earlier.index[earlier.isna()], key=key)
    weights = np.array(list(shares.values())) / sum(shares.values())
    current = np.array([(earlier == split).sum() for split in shares], dtype=np.int64)
    needed = np.maximum(_quotas(len(pool), weights) - current, 0)
    while needed.sum() > len(new):
        needed[needed.argmax()] -= 1
    target = (weights * sum(n_images.values())).tolist()
    images = [int(pool["n_images"][earlier == split].sum()) for split in shares]
    open_places = needed.tolist()
    chosen: list[tuple[int, int]] = []
    for group in new:
        # The split that lacks most of its images, of those that still need a group.
        split = min((images[i] / target[i], i) for i, n_places in enumerate(open_places) if n_places > 0)[1]
        open_places[split] -= 1
        images[split] += n_images[group]
        chosen.append((-n_images[group], split))
    # The hash decides which of the groups with the same number of images get which split.
    return pd.Series([list(shares)[split] for _, split in sorted(chosen)], index=new, dtype="str")


def _quotas(n: int, shares: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Round ``n`` times the shares to integers with sum ``n``, none of them 0 if ``n`` is large enough."""
    # Largest remainder method.
    quotas: npt.NDArray[np.int64] = np.floor(n * shares).astype(np.int64)
    remainder = n * shares - quotas
    quotas[np.argsort(-remainder, kind="stable")[: n - quotas.sum()]] += 1
    while n >= len(quotas) and quotas.min() == 0:
        quotas[quotas.argmax()] -= 1
        quotas[quotas.argmin()] += 1
    return quotas
