"""Which training images are shown how often, by index: no pixel is copied.

Images that are shown once more or left out are chosen by a hash of the image and the seed: the choice does not
depend on the order of the rows, and most of it stays as it is when images are added.
"""

from collections.abc import Callable
from hashlib import blake2b

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr_pipeline.data.splits import rarest_first

Counts = NDArray[np.int64]


def class_numbers(labels: pd.DataFrame) -> NDArray[np.intp]:
    """Give each image one class to be sampled by: of its classes the rarest among these images.

    Args:
        labels: n images, k columns of 1, 0 and NaN.

    Returns:
        [n], the number of a column, or k for an image that is not known to have any class.

    Example:
        >>> class_numbers(pd.DataFrame({"mass": [1, 1, 0], "hernia": [0, 1, 0]})).tolist()
        [0, 1, 2]
    """
    ordered = rarest_first(labels)
    has = ordered.eq(1).to_numpy()
    number_of_rank = labels.columns.get_indexer(ordered.columns)
    return np.where(has.any(axis=1), number_of_rank[has.argmax(axis=1)], len(labels.columns))


def plan_sampling(
    images: pd.DataFrame,
    *,
    plan: str,
    class_weights: bool,
    seed: int,
    max_repeat: int | None = None,
    within_sources: bool = False,
) -> pd.DataFrame:
    """Plan an epoch.

    Args:
        images: training images with ``source``, ``image``, ``sha256`` and ``y``, the number of the class.
        plan: ``none`` shows each image once. ``oversample`` shows images of the smaller classes again until all
            classes are equal: each image as often as the whole ratio, some once more. ``undersample`` leaves
            images of the larger classes out until all classes are equal.
        class_weights: weigh each image by n / (classes * images of its class), with images counted as often as
            they are shown, so that each class has the same total; otherwise 1.
        seed: decides which images are shown once more or left out.
        max_repeat: the most often that an image is shown in an epoch, 1 or more; None for no limit. Without it a class
            of 5 images beside one of 1,000 is learned by heart: each is shown 200 times. With it that class stays
            smaller, which ``class_weights`` makes up for.
        within_sources: take the images of a class from each source for a class of their own, so that no source tells
            by its size which class is likely.

    Returns:
        A row for each image in the order given: ``source``, ``image``, ``sha256``, ``count`` (int64, times
        shown in an epoch) and ``weight`` (float64; 1 on average over the images shown).

    Raises:
        ValueError: the plan is unknown, the class of an image is, or ``max_repeat`` is below 1.
    """
    if plan not in PLANS:
        raise ValueError(f"A plan must be one of {', '.join(PLANS)}. Received: plan={plan!r}")
    if max_repeat is not None and max_repeat < 1:
        raise ValueError(f"An image is shown once at least. Received: max_repeat={max_repeat}")
    if images["y"].isna().any():
        raise ValueError(f"Every training image must have a class. Received: {images['y'].isna().sum()} without one")
    keys = ["source", "y"] if within_sources else ["y"]
    class_of = images.groupby(keys, sort=True).ngroup().to_numpy().astype(np.intp)
    sizes = np.bincount(class_of)
    counts = PLANS[plan](class_of, sizes, _ranks(images, class_of, seed))
    if max_repeat is not None:
        counts = np.minimum(counts, max_repeat)
    weights = _balance(class_of, counts) if class_weights else np.ones(len(images))
    planned = images[["source", "image", "sha256"]].reset_index(drop=True)
    return planned.assign(count=counts.astype(np.int64), weight=weights)


def _show_once(class_of: NDArray[np.intp], sizes: Counts, ranks: Counts) -> Counts:
    return np.ones(len(class_of), dtype=np.int64)


def _oversample(class_of: NDArray[np.intp], sizes: Counts, ranks: Counts) -> Counts:
    often, rest = np.divmod(sizes.max(initial=0), sizes)
    counts: Counts = often[class_of] + (ranks < rest[class_of])
    return counts


def _undersample(class_of: NDArray[np.intp], sizes: Counts, ranks: Counts) -> Counts:
    counts: Counts = (ranks < sizes.min(initial=len(ranks))).astype(np.int64)
    return counts


PLANS: dict[str, Callable[[NDArray[np.intp], Counts, Counts], Counts]] = {
    "none": _show_once,
    "oversample": _oversample,
    "undersample": _undersample,
}


def _ranks(images: pd.DataFrame, class_of: NDArray[np.intp], seed: int) -> Counts:
    """The place of each image within its class, in the order of the hashes, int64 [n] from 0."""
    named = zip(images["source"], images["image"], images["sha256"], strict=True)
    hashes = (blake2b(repr((seed, *map(str, image))).encode(), digest_size=8).digest() for image in named)
    keys = np.array([int.from_bytes(key, "big") for key in hashes], dtype=np.uint64)
    order = np.lexsort((keys, class_of))
    first_of_class = np.searchsorted(class_of[order], class_of)
    places = np.empty(len(images), dtype=np.int64)
    places[order] = np.arange(len(images))
    return places - first_of_class


def _balance(class_of: NDArray[np.intp], counts: Counts) -> NDArray[np.float64]:
    shown = np.bincount(class_of, weights=counts)
    weight_of_class: NDArray[np.float64] = counts.sum() / (len(shown) * shown)
    return weight_of_class[class_of]
