"""The images and labels of the sanity checks."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np

from cxr_pipeline.training.features import Images
from cxr_pipeline.training.image_sets import ImageSet


def balanced_subset(images: ImageSet, n_images: int, *, seed: int) -> ImageSet:
    """Draw images of each class, and images without any class, in turn until there are enough, each at most once.

    The subset is smaller if there are fewer images with a known label, and larger if there are more classes.
    """
    positive = images.y == 1
    none = ~positive.any(axis=1) & ~np.isnan(images.y).all(axis=1)
    rng = np.random.default_rng(seed)
    decks = [list(rng.permutation(np.flatnonzero(column))) for column in (*positive.T, none) if column.any()]
    size = max(n_images, len(decks))
    drawn: dict[int, None] = {}
    while any(decks) and len(drawn) < size:
        for deck in decks:
            # An image with several classes may have been drawn for another one.
            while deck and deck[-1] in drawn:
                deck.pop()
            if deck and len(drawn) < size:
                drawn[deck.pop()] = None
    rows = np.array(sorted(drawn))
    return ImageSet.unweighted(images=images.images, sha256=images.sha256[rows], y=images.y[rows])


def shuffle_labels(train: ImageSet, validation: ImageSet, *, seed: int) -> tuple[ImageSet, ImageSet, np.ndarray]:
    """Shuffle labels among images: those of an image stay together, and equal images keep equal labels.

    Returns:
        Both with their new labels, and the number of the content of each validation image, int [n].
    """
    digests = [*_content_digests(train.images, train.sha256), *_content_digests(validation.images, validation.sha256)]
    _, first, content = np.unique(digests, return_index=True, return_inverse=True)
    labels = np.concatenate([train.y, validation.y])[first]
    y = np.random.default_rng(seed).permutation(labels)[content]
    n = len(train.y)
    return replace(train, y=y[:n]), replace(validation, y=y[n:]), content[n:]


def _content_digests(images: Images, sha256s: np.ndarray) -> list[str]:
    """Return digests of the images as the network sees them, equal for two files of the same image."""
    chunks = (images.read(sha256s[start : start + 64].tolist()) for start in range(0, len(sha256s), 64))
    return [hashlib.sha256(image.tobytes()).hexdigest() for chunk in chunks for image in chunk]
