"""Data changes: differences between the current images and those of a model version, and rules for training on them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.sources.pseudonyms import pseudonyms
from cxr_pipeline.data.splits import group_ids, join_names, patient_names, registered_splits, with_gone_images

# Split of an image that could not be decoded, so that it does not count as new.
REFUSED = "refused"
PATIENT = "patient"
LEARNED = ("train", "validation")


@dataclass(frozen=True)
class DataChanges:
    """Differences between the current images and those of a model version, as numbers of images.

    ``reassigned`` images belong to another patient, or their patient became known or unknown. ``known`` images of the
    version still exist, including changed ones.
    """

    new: int
    relabelled: int
    reassigned: int
    gone: int
    known: int

    def __bool__(self) -> bool:
        return bool(self.newer or self.gone)

    @property
    def newer(self) -> bool:
        """Whether there are images, labels or patients that are new to the version."""
        return bool(self.new or self.relabelled or self.reassigned)

    def __str__(self) -> str:
        return (
            f"{self.new:,} new images, {self.relabelled:,} with other labels, {self.reassigned:,} with other patients, "
            f"{self.gone:,} missing"
        )


def images_used(manifest: pd.DataFrame, splits: pd.DataFrame, refused_images: pd.DataFrame) -> pd.DataFrame:
    """List the images of a version, usable and refused, without file names or patients.

    The columns are ``sha256`` (sorted), ``split`` (``train``, ``validation``, ``test`` or ``refused``) and the labels.
    """
    labels = label_columns(manifest)
    used = manifest[["source", "image", "sha256", *labels]].merge(
        splits[["source", "image", "split"]], on=["source", "image"], how="left", validate="one_to_one"
    )
    refused = refused_images[["sha256"]].drop_duplicates().assign(split=REFUSED)
    listing = pd.concat([used[["sha256", "split", *labels]], refused], ignore_index=True)
    return listing.astype({"sha256": "str", "split": "str"}).sort_values("sha256", ignore_index=True)


def hash_patients(manifest: pd.DataFrame, key_file: Path) -> "pd.Series[str]":
    """Hash the patient of each image, together with its source, by a secret key (see ``sources.pseudonyms``).

    The 16 hexadecimal digits are equal for images of the same patient of a source, and null if it is unknown.
    """
    patients = manifest["source"].astype("str") + "\x1f" + manifest["patient_id"].astype("str")
    return pseudonyms(patients.where(manifest["patient_id"].notna()), key_file)


def with_patients(images: pd.DataFrame, manifest: pd.DataFrame, key_file: Path) -> pd.DataFrame:
    """Add ``source`` and the hashed ``patient`` to `images_used`; null where an image was refused."""
    patients = manifest[["sha256", "source"]].assign(**{PATIENT: hash_patients(manifest, key_file)})
    return images.merge(patients, on="sha256", how="left", validate="many_to_one")


def find_data_changes(images: pd.DataFrame, used: pd.DataFrame) -> DataChanges:
    """Compare the current images (``manifest.list_images``) with those of a version (`images_used`), by content.

    Patients are compared if both tables have the columns ``source`` and ``patient``, among images of the same source.
    """
    pairs = _pairs(images, used)
    known = pairs["split"].ne(REFUSED)
    return DataChanges(
        new=len(images) - len(pairs),
        relabelled=int((known & _relabelled(pairs, images, used)).sum()),
        reassigned=int((known & _reassigned(pairs)).sum()),
        gone=int((~used["sha256"].isin(images["sha256"])).sum()),
        known=int(known.sum()),
    )


def images_to_check(images: pd.DataFrame, reference: pd.DataFrame, champion: pd.DataFrame) -> pd.DataFrame:
    """Select the images that no drift check has seen: those that the reference version did not have.

    An image that it had with other labels is tested again, unless the champion had it, too: then it counts as
    relabelled, for which there is a separate limit.
    """
    pairs = _pairs(images, reference)
    relabelled = pairs.loc[_relabelled(pairs, images, reference) & pairs["split"].ne(REFUSED), "sha256"]
    checked = images["sha256"].isin(reference["sha256"])
    again = images["sha256"].isin(relabelled) & ~images["sha256"].isin(champion["sha256"])
    return images[~checked | again]


def _pairs(images: pd.DataFrame, used: pd.DataFrame) -> pd.DataFrame:
    """Join the images that are in both tables; columns of ``used`` end in ``_used``."""
    return images.merge(used, on="sha256", suffixes=("", "_used"), validate="one_to_one")


def _relabelled(pairs: pd.DataFrame, images: pd.DataFrame, used: pd.DataFrame) -> "pd.Series[bool]":
    labels = label_columns(images)
    if labels != label_columns(used):  # with other classes, every image has other labels
        return pd.Series(True, pairs.index)
    now, before = pairs[labels], pairs[[f"{label}_used" for label in labels]].set_axis(labels, axis=1)
    return (now.ne(before) & ~(now.isna() & before.isna())).any(axis=1)


def _reassigned(pairs: pd.DataFrame) -> "pd.Series[bool]":
    if not {"source_used", "patient_used"} <= set(pairs.columns):
        return pd.Series(False, pairs.index)
    same_source = pairs["source"].eq(pairs["source_used"])
    return same_source & pairs["patient"].fillna("").ne(pairs["patient_used"].fillna(""))


def too_many_relabelled(changes: DataChanges, *, max_fraction: float, task: str) -> str | None:
    """Return why training must stop if more than ``max_fraction`` of the known images have new labels, else None.

    A challenger that learned systematically wrong labels would also be tested on them, and win.
    """
    if changes.relabelled <= max_fraction * changes.known:
        return None
    allowed = min(1, changes.relabelled / changes.known + 0.005)
    return (
        f"{changes.relabelled:,} of {changes.known:,} images have new labels since the champion was trained, more "
        f"than max_relabelled_fraction = {max_fraction:g} allows. Nothing was trained. Fix the labels or, if they are "
        f"correct, use --params {task}.retraining.max_relabelled_fraction={allowed:.2f}"
    )


def too_much_drift(drift: Mapping[str, Any], *, model: str, champion: int, task: str) -> str | None:
    """Return why training must stop if the verdict of a drift report on the new images is ``refuse``, else None."""
    if drift["verdict"] != "refuse":
        return None
    reference, learned = drift["model"]["version"], ""
    if reference < champion:
        learned = (
            f" The champion, {model} {champion}, was trained on some of them, when there were too few to test; kedro "
            f"run --pipeline={task}_rollback restores the previous champion."
        )
    return (
        f"The new images ({drift['n_new']:,} were compared) differ from those of {model} {reference}. "
        f"{drift['sentence']} Nothing was trained.{learned} Check these images and their labels, and fix or remove "
        f"them or, if they are correct, use --params {task}.retraining.on_drift=warn"
    )


def should_train(
    model: str,
    champion: int | None,
    changes: DataChanges | None,
    decided: tuple[int, str] | None,
    *,
    n_images: int,
    force: bool,
) -> tuple[bool, str]:
    """Decide whether to train a challenger on the current images, and give the reason.

    ``champion`` is the number of the champion, and ``changes`` are those since it, if there is one. ``decided`` is the
    version that was trained on the same images with the same parameters, and its decision, if there is one. ``force``
    trains even without changes, unless that would reproduce the champion.
    """
    if changes is not None and not changes:
        reason = f"Nothing is new: the {n_images:,} images are those of the champion, {model} {champion}."
    elif decided is not None:
        reason = f"Nothing is new: {model} {decided[0]} was trained on these {n_images:,} images and was {decided[1]}."
    elif changes is None:
        return True, f"{model} has no champion; there are {n_images:,} images to train on."
    else:
        return True, f"Since the champion, {model} {champion}: {changes}."
    if force and (decided is None or decided[0] != champion):
        return True, f"{reason} Training was forced."
    return False, reason


def extend_registry(registry: pd.DataFrame, assigned: pd.DataFrame, *, task: str) -> pd.DataFrame:
    """Add newly assigned splits to the split registry, which another run may have extended in the meantime.

    `UserError` is raised if a patient or an image would change its split.
    """
    moved = find_moved(registry, assigned)
    if len(moved):
        names = patient_names(moved)
        raise UserError(
            f"The challenger was trained with splits that differ from those in {task}.splits (splits.parquet): "
            f"{len(names)} patients would change split ({join_names(names)}). The file may have been replaced during "
            "training. Run the same command again to train with the current splits."
        )
    return with_gone_images(assigned, registry)


def find_moved(registry: pd.DataFrame, assigned: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of ``assigned`` whose patient or content is in another split in the registry."""
    earlier = pd.concat(registered_splits(assigned, registry), axis=1)
    return assigned[(earlier.notna() & earlier.ne(assigned["split"], axis=0)).any(axis=1)]


def check_unseen(test: pd.DataFrame, used: pd.DataFrame, registry: pd.DataFrame, *, version: str) -> None:
    """Raise `UserError` if a version was trained on ``test`` images, or on other images of their patients."""
    if n_seen := int(learned_from(test, used, registry).sum()):
        raise UserError(
            f"{version} cannot be compared on these test images: it was trained on {n_seen} of {len(test)} of "
            "them, or on other images of their patients. The split registry was replaced since its training. Restore "
            "the earlier splits.parquet from former_splits/; or remove the alias champion from it, so that the next "
            "version is promoted on the floors only."
        )


def learned_from(test: pd.DataFrame, used: pd.DataFrame, registry: pd.DataFrame) -> "pd.Series[bool]":
    """Return for each of the ``test`` images whether a version was trained on it, or on others of its patient.

    The images that the version ``used`` are from `images_used`; their patients are taken from the split registry and,
    if both tables have hashed patients, compared by `PATIENT`.
    """
    learned = used[used["split"].isin(LEARNED)]
    patients = group_ids(registry)[registry["sha256"].isin(learned["sha256"]).to_numpy()]
    seen = test["sha256"].isin(learned["sha256"]) | group_ids(test).isin(patients)
    if PATIENT in test and PATIENT in learned:
        seen |= test[PATIENT].notna() & test[PATIENT].isin(learned[PATIENT].dropna())
    return seen


def label_columns(table: pd.DataFrame) -> list[str]:
    """Return the names of the label columns of a table of images, sorted."""
    return sorted(table.filter(regex="^label_").columns)
