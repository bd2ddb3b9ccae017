"""Figures of images: errors, examples, augmented views and heat maps."""

import math
import textwrap
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from cxr_pipeline.evaluation.localisation import overlay
from cxr_pipeline.report.figures import style
from cxr_pipeline.report.figures.style import INCHES_DENSE, ORANGE, PHOTOS, Axes

# True and predicted value of each outcome.
OUTCOMES = {"true positives": (1, 1), "false positives": (0, 1), "false negatives": (1, 0), "true negatives": (0, 0)}
BARE = {"frame_on": False, "xticks": [], "yticks": []}


def mistakes(images: NDArray[np.uint8], captions: Sequence[str]) -> bytes:
    """Draw misclassified images [n, S, S] in rows of three, each above its caption."""
    wrapped = [textwrap.fill(caption, 22, max_lines=3) for caption in captions]
    return _captioned(images, wrapped, 3, fontsize=9, empty="No test image was misclassified.")


def class_samples(images: NDArray[np.uint8], names: Sequence[str]) -> bytes:
    """Draw an image of each class [n, S, S] above its name, in rows of up to five."""
    wrapped = [textwrap.fill(name, 20) for name in names]
    return _captioned(images, wrapped, min(5, len(images)), fontsize=10, empty="No class has a training image.")


def augmentation_preview(images: NDArray[np.uint8]) -> bytes:
    """Draw a row for each image of grey images [n, views, S, S]: the original, then augmented views."""
    n_images, n_views = images.shape[:2]
    if not images.size:
        return style.message("No image was augmented.", **PHOTOS)
    with style.sheet(height=0.3 + 4.4 * n_images / n_views, **PHOTOS) as figure:
        grid = style.panels(figure, n_images * n_views, n_views, subplot_kw=BARE)
        for axes, image in zip(grid, images.reshape(-1, *images.shape[2:]), strict=True):
            _show(axes, image)
        for view, axes in enumerate(grid[:n_views]):
            axes.set_title("original" if view == 0 else f"view {view}", fontsize=9)
        return style.png(figure)


def choose_images(y_true: ArrayLike, probability: ArrayLike, predicted: ArrayLike, limit: int = 4) -> pd.DataFrame:
    """Choose the most confident true and false positives and negatives of an output, at most ``limit`` of each.

    Labels [n] are 1, 0, or NaN (ignored); predictions [n] are bool. Columns are ``kind`` (one of ``OUTCOMES``, in their
    order), ``position`` of the image in ``y_true``, and ``caption``, its probability. Predicted positives are sorted by
    falling probability, predicted negatives by rising.
    """
    true, scores, positive = (np.asarray(values, dtype=np.float64) for values in (y_true, probability, predicted))
    rows: list[tuple[str, int, str]] = []
    for outcome, (label, decision) in OUTCOMES.items():
        members = np.flatnonzero((true == label) & (positive == decision))
        surest = members[np.argsort(-scores[members] if decision else scores[members], kind="stable")][:limit]
        rows.extend((outcome, int(image), f"{scores[image]:.3f}") for image in surest)
    types = {"kind": "str", "position": "int64", "caption": "str"}
    return pd.DataFrame(rows, columns=list(types)).astype(types)


def heatmap_grid(
    chosen: pd.DataFrame,
    images: NDArray[np.uint8],
    heatmaps: NDArray[np.floating],
    boxes: Sequence[NDArray[np.floating]],
) -> bytes:
    """Draw a row for each outcome: each image next to its heat map, both with the annotated boxes.

    Images [n, S, S] and heat maps [n, S, S], in [0, 1], are those of the rows from `choose_images`. Boxes of an image
    [m, 4] are left, top, right and bottom as fractions of it.
    """
    if chosen.empty:
        return style.message("No heat maps: no test image has a known label.", **PHOTOS)
    outcomes = [outcome for outcome in OUTCOMES if (chosen["kind"] == outcome).any()]
    n_pairs = int(chosen["kind"].value_counts().max())
    side = INCHES_DENSE / max(2 * n_pairs, 4)
    with style.sheet(len(outcomes) * (side + 0.45), INCHES_DENSE, **PHOTOS) as figure:
        grid = figure.subplots(len(outcomes), 2 * n_pairs, squeeze=False, subplot_kw=BARE)
        for row, outcome in zip(grid, outcomes, strict=True):
            row[0].set_title(outcome, loc="left", fontsize=10)
            for place, image in enumerate(np.flatnonzero(chosen["kind"] == outcome).tolist()):
                plain, mapped = row[2 * place : 2 * place + 2]
                _show(plain, images[image])
                plain.set_xlabel(chosen["caption"].iloc[image], fontsize=9)
                mapped.imshow(overlay(images[image], heatmaps[image]))
                for axes in (plain, mapped):
                    _outline(axes, boxes[image], images.shape[-1])
        return style.png(figure)


def _captioned(images: NDArray[np.uint8], captions: Sequence[str], n_wide: int, *, fontsize: int, empty: str) -> bytes:
    if not len(images):
        return style.message(empty, **PHOTOS)
    n_high = math.ceil(len(images) / n_wide)
    with style.sheet(height=n_high * (INCHES_DENSE / n_wide + 0.3), width=INCHES_DENSE, **PHOTOS) as figure:
        grid = style.panels(figure, len(images), n_wide, subplot_kw=BARE)
        for axes, image, caption in zip(grid, images, captions, strict=True):
            _show(axes, image)
            axes.set_xlabel(caption, fontsize=fontsize)
        return style.png(figure)


def _show(axes: Axes, image: NDArray[np.uint8]) -> None:
    # Fixed limits: matplotlib would otherwise stretch the contrast of each image.
    axes.imshow(image, cmap="gray", vmin=0, vmax=255)


def _outline(axes: Axes, boxes: NDArray[np.floating], size: int) -> None:
    from matplotlib.patches import Rectangle

    for left, top, right, bottom in boxes * size:
        corner, width, height = (left - 0.5, top - 0.5), right - left, bottom - top
        axes.add_patch(Rectangle(corner, width, height, fill=False, edgecolor=ORANGE, linewidth=1.2))
