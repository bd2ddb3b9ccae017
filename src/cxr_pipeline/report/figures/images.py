"""Pictures made of images."""

import textwrap
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cxr_pipeline.report.figures.style import INCHES_DENSE, png, sheet, words

SAMPLES_WIDE = 5


def mistakes(images: NDArray[np.uint8], captions: Sequence[str]) -> bytes:
    """Images in rows of three, each above its caption.

    Args:
        images: grey images [n, S, S].
        captions: one for each image; long ones are wrapped.
    """
    if not len(images):
        return words("No test image was decided wrongly.")
    n_rows = -(-len(images) // 3)
    with sheet(height=2.05 * n_rows) as figure:
        panels = figure.subplots(n_rows, 3, squeeze=False, subplot_kw={"frame_on": False, "xticks": [], "yticks": []})
        for place, (image, caption) in enumerate(zip(images, captions, strict=True)):
            axes = panels.flat[place]
            axes.imshow(image, cmap="gray", vmin=0, vmax=255)
            axes.set_xlabel(textwrap.fill(caption, 22, max_lines=3), fontsize=9)
        return png(figure)


def augmentation_preview(images: NDArray[np.uint8]) -> bytes:
    """Each row one image: the original, then views as they are shown in training.

    Args:
        images: grey images [n, views, S, S], the original first.
    """
    n_images, n_views = images.shape[:2]
    if not images.size:
        return words("No image was augmented.")
    with sheet(height=0.3 + 4.4 * n_images / n_views) as figure:
        panels = figure.subplots(n_images, n_views, squeeze=False)
        for (row, view), axes in np.ndenumerate(panels):
            axes.set_axis_off()
            axes.imshow(images[row, view], cmap="gray", vmin=0, vmax=255)
            if row == 0:
                axes.set_title("original" if view == 0 else f"view {view}", fontsize=9)
        return png(figure)


def class_samples(images: NDArray[np.uint8], names: Sequence[str]) -> bytes:
    """An image of each class above its name, in rows of up to five.

    Args:
        images: grey images [n, S, S].
        names: one for each image.
    """
    if not len(images):
        return words("No class has a training image.")
    n_wide = min(SAMPLES_WIDE, len(images))
    n_rows = -(-len(images) // n_wide)
    with sheet(height=n_rows * (INCHES_DENSE / n_wide + 0.25), width=INCHES_DENSE) as figure:
        panels = figure.subplots(
            n_rows, n_wide, squeeze=False, subplot_kw={"frame_on": False, "xticks": [], "yticks": []}
        )
        for axes, (image, name) in zip(panels.flat, zip(images, names, strict=True), strict=False):
            axes.imshow(image, cmap="gray", vmin=0, vmax=255)
            axes.set_xlabel(textwrap.fill(name, 20), fontsize=10)
        return png(figure)
