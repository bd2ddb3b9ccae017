"""Combine the labels of several rows of the same image: of several readers, or one row for each finding."""

from typing import Literal

import numpy as np
import pandas as pd

from cxr_pipeline.data.sources.labels import fold, is_normal

Combination = Literal["any", "majority", "unanimous"]

# An uncertain label is half a vote, and a reader who does not know has none.
_VOTES = {"labels": 1.0, "uncertain": 0.5, "unknown": np.nan}


def combine_readings(rows: pd.DataFrame, readers: "pd.Series[str]", how: Combination) -> pd.DataFrame:
    """Give all rows of an image the same labels. They are compared as by ``fold``, and keep their first spelling.

    The rows of one reader add up, as in a table with a row for each finding. Without readers, each row is a reader of
    its own. An image has no known labels if each of its readers found something, but no label has enough votes.

    Args:
        rows: rows of ``label_tables.read_labels``.
        readers: name of the reader of each row, null where it has none.
        how: ``any``: an image has the labels that at least one reader found, but a label for a normal image only if it
            has no other.
            ``majority``: those that more than half of the readers found; labels of exactly half are uncertain.
            Those of fewer are ``outvoted``.
            ``unanimous``: those that all readers found; labels of only some of them are uncertain.
    """
    readers = readers.fillna(rows.index.to_series().astype("str").radd("row "))
    parts = [
        rows[["image"]].assign(reader=readers, label=rows[column].str.split("|"), vote=vote).explode("label")
        for column, vote in _VOTES.items()
    ]
    said = pd.concat(parts).replace({"label": ""}, None).dropna(subset=["image", "label"])
    folded = said["label"].map({label: fold(label) for label in said["label"].unique()})
    said["label"] = said.groupby(["image", folded])["label"].transform("first")
    of_readers = said.groupby(["image", "reader", "label"])["vote"].max()
    votes = of_readers.groupby(["image", "label"]).agg(["sum", "max", "size", "count"]).reset_index()
    has_read = rows[["labels", "unknown"]].notna().any(axis=1)
    of_image = readers.where(has_read).groupby(rows["image"]).nunique()
    n_who_know = votes["image"].map(of_image) - votes["size"] + votes["count"]
    share = votes["max"] if how == "any" else votes["sum"] / n_who_know
    found = share.eq(1) if how == "unanimous" else share.gt(0.5)
    if how == "any":
        normal = votes["label"].map({label: is_normal(label) for label in votes["label"].unique()}).astype("bool")
        found &= ~(normal & (found & ~normal).groupby(votes["image"]).transform("any"))
    uncertain = ~found & (share.gt(0) if how == "unanimous" else share.eq(0.5))
    outvoted = ~uncertain & share.between(0, 0.5, inclusive="neither")
    cases = {"labels": found, "uncertain": uncertain, "unknown": n_who_know.eq(0), "outvoted": outvoted}
    joined = {
        name: rows["image"].map(votes[case].groupby("image")["label"].agg("|".join)).astype("str")
        for name, case in cases.items()
    }
    is_labelled = rows["labels"].notna().groupby(rows["image"]).transform("any")
    labels = joined["labels"].mask(is_labelled & joined["labels"].isna(), "")
    n_finders = said[said["vote"] > 0].groupby("image")["reader"].nunique()
    all_found_something = rows["image"].map(n_finders).eq(rows["image"].map(of_image))
    disputed = labels.eq("") & joined["uncertain"].isna() & all_found_something
    return rows.assign(**{**joined, "labels": labels.mask(disputed)})
