"""What a retraining looks at: which images a version was made with, what is new, and whom it may be tested on."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.splits import COLUMNS, group_ids, join_names, patient_names

# Beside the splits: an image that could not be decoded. It is known, and no news.
REFUSED = "refused"
SEEN = ("train", "validation")


@dataclass(frozen=True)
class News:
    """How the images of today differ from those that a version was made with.

    Args:
        new: images that it did not have.
        relabelled: images with other labels than it knew.
        gone: images that it had and that are no more.
        known: images that it had and that are still there, those with other labels included.
    """

    new: int
    relabelled: int
    gone: int
    known: int

    @property
    def any(self) -> bool:
        """Whether there is a difference."""
        return bool(self.new or self.relabelled or self.gone)

    @property
    def newer(self) -> bool:
        """Whether there is something to learn that the version could not learn."""
        return bool(self.new or self.relabelled)

    def __str__(self) -> str:
        return f"{self.new:,} new images, {self.relabelled:,} with other labels, {self.gone:,} gone"


def images_used(manifest: pd.DataFrame, splits: pd.DataFrame, refused_images: pd.DataFrame) -> pd.DataFrame:
    """List the images of a version by their content, without file names or patients.

    Args:
        manifest: the usable images.
        splits: the split of each, and of images that are gone.
        refused_images: ``sha256`` of images that could not be decoded.

    Returns:
        ``sha256``, ``split`` (``train``, ``validation``, ``test`` or ``refused``) and the label columns, ordered by
        content.
    """
    labels = label_columns(manifest)
    used = manifest[["source", "image", "sha256", *labels]].merge(
        splits[["source", "image", "split"]], on=["source", "image"], how="left", validate="one_to_one"
    )
    refused = refused_images[["sha256"]].drop_duplicates().assign(split=REFUSED)
    listed_images = pd.concat([used[["sha256", "split", *labels]], refused], ignore_index=True)
    return listed_images.astype({"sha256": "str", "split": "str"}).sort_values("sha256", ignore_index=True)


def find_news(images: pd.DataFrame, used: pd.DataFrame) -> News:
    """Compare the images of today with those of a version, by content and labels.

    Args:
        images: from ``manifest.list_images``: each content once.
        used: from `images_used`.
    """
    labels = label_columns(images)
    today = images[["sha256", *labels]].drop_duplicates("sha256").set_index("sha256")
    then = used.set_index("sha256")
    both = today.index.intersection(then.index[then["split"] != REFUSED])
    if set(labels) == set(label_columns(used)):
        now, before = today.loc[both, labels], then.loc[both, labels]
        relabelled = int((~((now == before) | (now.isna() & before.isna())).all(axis=1)).sum())
    else:
        relabelled = len(both)
    return News(
        new=len(images_new_to(images.drop_duplicates("sha256"), used)),
        relabelled=relabelled,
        gone=int((~then.index.isin(today.index)).sum()),
        known=len(both),
    )


def images_new_to(images: pd.DataFrame, used: pd.DataFrame) -> pd.DataFrame:
    """Take the images of today that a version did not have, by content.

    Args:
        images: from ``manifest.list_images``: each content once.
        used: from `images_used`.
    """
    return images[~images["sha256"].isin(used["sha256"])]


def images_not_compared(images: pd.DataFrame, compared: pd.DataFrame) -> pd.DataFrame:
    """Leave out the images of today that were compared before, with the labels that they have today.

    Args:
        images: from ``manifest.list_images``: each content once.
        compared: from `images_used`.
    """
    labels = label_columns(images)
    if set(labels) != set(label_columns(compared)):
        return images
    before = compared[["sha256", *labels]].drop_duplicates().assign(before=True)
    found = images[["sha256", *labels]].merge(before, how="left", on=["sha256", *labels])
    return images[found["before"].isna().to_numpy()]


def too_many_relabelled(news: News, *, max_fraction: float, task: str = "<task>") -> str | None:
    """Tell whether the labels of too many known images have changed: a challenger would learn, and pass, a new meaning.

    Args:
        news: since the champion.
        max_fraction: the largest fraction of the known images that may have other labels, 0 to 1.
        task: the task, for the command that is offered.

    Returns:
        why nothing is to be trained; None where there are not too many.
    """
    if news.relabelled <= max_fraction * news.known:
        return None
    fraction = news.relabelled / news.known
    return (
        f"{news.relabelled:,} of {news.known:,} images have other labels than those the champion learned from; that "
        f"is more than max_relabelled_fraction = {max_fraction:g} allows. Compared on such images, a challenger "
        "that learned the same mistake wins. Nothing was trained. Mend the labels; or, if they are right now: "
        f"--params {task}.retraining.max_relabelled_fraction={min(1, fraction + 0.005):.2f}"
    )


def too_much_drift(drift: Mapping[str, Any], *, model: str, champion: int, task: str = "<task>") -> str | None:
    """Tell whether new images are so unlike those of a version that nothing should be trained on them unseen.

    Args:
        drift: ``verdict``, ``sentence`` and ``n_new`` of a check of the new images, and ``since``, the number of the
            version that they are new to.
        model: name of the registered model.
        champion: number of the version in use.
        task: the task, for the commands that are offered.

    Returns:
        why nothing is to be trained; None where the verdict is another than ``refuse``.
    """
    if drift["verdict"] != "refuse":
        return None
    owner, learned = f"the champion, {model} {champion},", ""
    if drift["since"] != champion:
        owner = f"{model} {drift['since']}"
        learned = (
            f" Some of them, too few to tell at the time, the champion, {model} {champion}, has learned from; kedro "
            f"run --pipeline={task}_rollback puts the one before it back."
        )
    return (
        f"The new images, of which {drift['n_new']:,} were looked at, are unlike those that {owner} comes from. "
        f"{drift['sentence']} Nothing was trained.{learned} Look at these images and at their labels; then mend or "
        f"remove them, or, if they are right: --params {task}.retraining.on_drift=warn"
    )


def whether_to_train(
    model: str,
    champion: int | None,
    news: News | None,
    decided: tuple[int, str] | None,
    *,
    n_images: int,
    force: bool,
) -> tuple[bool, str]:
    """Tell whether a challenger is to be trained.

    Args:
        model: name of the registered model.
        champion: number of the version in use; None where there is none.
        news: since that version; None where there is none.
        decided: the version that was trained on the same images by the same parameters, and what was decided of it;
            None where there is none.
        n_images: images of today.
        force: train even so, unless that would make the champion once more.

    Returns:
        whether, and why, in a sentence or two.
    """
    nothing = None
    if news is not None and not news.any:
        nothing = f"Nothing is new: the {n_images:,} images are those of the champion, {model} {champion}."
    elif decided is not None:
        nothing = f"Nothing is new: {model} {decided[0]} learned from these {n_images:,} images, and was {decided[1]}."
    if nothing is not None:
        force = force and (decided is None or decided[0] != champion)
        return force, f"{nothing} A challenger was asked for." if force else nothing
    if news is None:
        return True, f"{model} has no champion; there are {n_images:,} images to learn from."
    return True, f"Since the champion, {model} {champion}: {news}."


def extend_ledger(ledger: pd.DataFrame, dealt: pd.DataFrame, *, task: str = "<task>") -> pd.DataFrame:
    """Add what was dealt to the split ledger, in which nobody ever moves.

    Args:
        ledger: the splits of earlier runs, with ``splits.COLUMNS``; another run may have added to it meanwhile.
        dealt: the splits of this one, likewise.
        task: the task, for the message.

    Returns:
        the rows of ``dealt``, then those of the ledger whose image is not among them.

    Raises:
        UserError: a patient or a content is in another split now.
    """
    moved = images_moved(ledger, dealt)
    if len(moved):
        names = patient_names(moved)
        raise UserError(
            f"the challenger was trained with other splits than are on record in {task}.splits (splits.parquet): "
            f"{len(names)} patients would move ({join_names(names)}). Was that file replaced while it was trained? Run "
            "the same command again to train it with the splits on record."
        )
    columns = list(COLUMNS)
    known = pd.MultiIndex.from_frame(ledger[["source", "image"]].astype("str"))
    there = pd.MultiIndex.from_frame(dealt[["source", "image"]])
    kept = ledger.loc[~known.isin(there) & ~ledger["sha256"].isin(dealt["sha256"]).to_numpy(), columns]
    return pd.concat([dealt[columns], kept], ignore_index=True).astype("str")


def images_moved(ledger: pd.DataFrame, dealt: pd.DataFrame) -> pd.DataFrame:
    """Find the rows of ``dealt`` whose patient, or whose content, the ledger has in another split."""
    known = ledger.assign(group=group_ids(ledger)).astype("str")
    by_group = group_ids(dealt).map(known.drop_duplicates("group").set_index("group")["split"])
    by_content = dealt["sha256"].map(known.drop_duplicates("sha256").set_index("sha256")["split"])
    said = pd.concat([by_group, by_content], axis=1)
    other = said.notna() & said.ne(dealt["split"], axis=0)
    return dealt[other.any(axis=1)]


def check_unseen(test: pd.DataFrame, used: pd.DataFrame, ledger: pd.DataFrame, *, version: str) -> None:
    """Make sure that a version can be tested on images: that it learned from none of them, nor from their patients.

    Args:
        test: images with ``source``, ``image``, ``sha256`` and ``patient_id``.
        used: from `images_used`, of the version.
        ledger: tells the patients of the images that the version learned from.
        version: for the message.

    Raises:
        UserError: it learned from some of them.
    """
    seen = used.loc[used["split"].isin(SEEN), "sha256"]
    patients = group_ids(ledger)[ledger["sha256"].isin(seen).to_numpy()]
    torn = test[test["sha256"].isin(seen).to_numpy() | group_ids(test).isin(patients).to_numpy()]
    if len(torn):
        raise UserError(
            f"{version} cannot be compared on these test images, because it learned from {len(torn)} of {len(test)} "
            "of them or from others of their patients: the split ledger was replaced since it was trained. Put the "
            "earlier splits.parquet back; or take the alias champion from it, so that the next version is promoted "
            "on the floors alone."
        )


def label_columns(images: pd.DataFrame) -> list[str]:
    """Name the label columns of a table of images, sorted."""
    return sorted(str(column) for column in images.columns if str(column).startswith("label_"))
