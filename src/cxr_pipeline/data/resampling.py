"""Sampling plans: how often each training image is shown in an epoch.

A hash of image and seed decides which are repeated or omitted, so that the choice changes little when images are added.
"""

from hashlib import blake2b
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr_pipeline.data.splits import rarest_first


def rarest_class(labels: pd.DataFrame) -> NDArray[np.intp]:
    """Return one class for each image to balance by: of its classes, the one with the fewest images.

    Of k columns of 1, 0 and NaN, it is the number of one, or k for an image that is not known to have any class.

    Example:
        >>> rarest_class(pd.DataFrame({"mass": [1, 1, 0], "hernia": [0, 1, 0]})).tolist()
        [0, 1, 2]
    """
    ordered = rarest_first(labels)
    has = ordered.eq(1).to_numpy()
    columns = labels.columns.get_indexer(ordered.columns)
    return np.where(has.any(axis=1), columns[has.argmax(axis=1)], len(columns))


def plan_sampling(
    images: pd.DataFrame,
    *,
    plan: Literal["none", "oversample", "undersample"],
    class_weights: bool,
    seed: int,
    max_repeat: int | None = None,
    within_sources: bool = False,
) -> pd.DataFrame:
    """Plan an epoch of training images with ``source``, ``image``, ``sha256`` and ``y``, the number of the class.

    The plan ``none`` shows every image once; ``oversample`` repeats images until all classes are as frequent as the
    most frequent one, and ``undersample`` omits images until all are as rare as the rarest. ``within_sources`` balances
    the classes within each source, so that the source says less about the class.

    ``class_weights`` are n / (classes * images of the class), counting images as often as they are shown, so that all
    classes have the same total weight. No image is shown more than ``max_repeat`` times: the few images of a rare class
    would be memorised. The class then remains smaller, for which ``class_weights`` compensate.

    There is a row for each image in the given order: ``source``, ``image``, ``sha256``, ``count`` (int64, times shown
    in an epoch) and ``weight`` (float64; 1 on average over the images shown).

    Example:
        >>> images = pd.DataFrame({"source": "s", "image": ["1", "2", "3"], "sha256": ["a", "b", "c"], "y": [0, 0, 1]})
        >>> plan_sampling(images, plan="oversample", class_weights=False, seed=0)["count"].tolist()
        [1, 1, 2]
    """
    keys = ["source", "y"] if within_sources else ["y"]
    class_of = images.groupby(keys, sort=True).ngroup().to_numpy().astype(np.intp)
    sizes = np.bincount(class_of)
    rows = zip(images["source"], images["image"], images["sha256"], strict=True)
    hashes = [blake2b(repr((seed, *map(str, row))).encode(), digest_size=8).hexdigest() for row in rows]
    # The position of each image within its class, in the order of the hashes.
    table = pd.DataFrame({"class": class_of, "hash": pd.Series(hashes, dtype="str")})
    ranks = table.sort_values("hash", kind="stable").groupby("class").cumcount().sort_index().to_numpy()
    counts = np.ones(len(images), dtype=np.int64)
    if plan == "oversample":
        repeats, remainder = np.divmod(sizes.max(initial=0), sizes)
        counts = repeats[class_of] + (ranks < remainder[class_of])
    elif plan == "undersample":
        counts = (ranks < sizes.min(initial=len(images))).astype(np.int64)
    if max_repeat is not None:
        counts = np.minimum(counts, max_repeat)
    weights = np.ones(len(images))
    if class_weights:
        shown = np.bincount(class_of, weights=counts)
        weights = (counts.sum() / (len(shown) * shown))[class_of]
    planned = images[["source", "image", "sha256"]].reset_index(drop=True)
    return planned.assign(count=counts.astype(np.int64), weight=weights)
