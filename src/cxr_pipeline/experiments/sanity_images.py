"""The images and the labels that the sanity checks learn."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np

from cxr_pipeline.training.features import Images
from cxr_pipeline.training.image_sets import ImageSet


def balanced_subset(images: ImageSet, n_images: int, *, seed: int) -> ImageSet:
    """Deal images from each class in turn, and from those that have none, until there are enough.

    Args:
        images: to choose from; one of which nothing is known is never chosen.
        n_images: wanted; fewer if there are no more, more if there are more classes that have images.
        seed: of the choice.

    Returns:
        The images, each shown once and weighing the same.
    """
    positive = images.y == 1
    none = ~positive.any(axis=1) & ~np.isnan(images.y).all(axis=1)
    members = [np.flatnonzero(column) for column in (*positive.T, none) if column.any()]
    rng = np.random.default_rng(seed)
    decks = [list(rng.permutation(places)) for places in members]
    chosen: dict[int, None] = {}
    wanted = max(n_images, len(decks))
    while any(decks) and len(chosen) < wanted:
        for deck in decks:
            while deck and deck[-1] in chosen:
                deck.pop()
            if deck and len(chosen) < wanted:
                chosen[deck.pop()] = None
    places = np.array(sorted(chosen))
    return ImageSet.unweighted(images=images.images, sha256=images.sha256[places], y=images.y[places])


def shuffle_labels(train: ImageSet, validation: ImageSet, *, seed: int) -> tuple[ImageSet, ImageSet, np.ndarray]:
    """Deal the labels of images anew: those of an image stay together, and equal images keep equal labels.

    Args:
        train: images that are learnt from.
        validation: images kept apart.
        seed: of the deal.

    Returns:
        Both with their new labels, and the number of the content of each validation image, integers [n].
    """
    digests = [*_content_digests(train.images, train.sha256), *_content_digests(validation.images, validation.sha256)]
    _, first, content = np.unique(digests, return_index=True, return_inverse=True)
    labels = np.concatenate([train.y, validation.y])[first]
    y = np.random.default_rng(seed).permutation(labels)[content]
    n = len(train.y)
    return replace(train, y=y[:n]), replace(validation, y=y[n:]), content[n:]


def _content_digests(images: Images, sha256s: np.ndarray) -> list[str]:
    """Digests of the images as the network sees them, so that two files of one image are equal."""
    chunks = (images.read(sha256s[start : start + 64].tolist()) for start in range(0, len(sha256s), 64))
    return [hashlib.sha256(image.tobytes()).hexdigest() for chunk in chunks for image in chunk]
