"""Pictures of where a model looks."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from cxr_pipeline.evaluation.overlay import overlay
from cxr_pipeline.report.figures.style import INCHES_DENSE, ORANGE, png, sheet, words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

KINDS = ("true positives", "false positives", "false negatives", "true negatives")


def choose_images(y_true: ArrayLike, probability: ArrayLike, called: ArrayLike, limit: int = 4) -> pd.DataFrame:
    """The images of each kind of decision of which the model is surest.

    Args:
        y_true: [n], 1 positive, 0 negative; images with NaN are left out.
        probability: [n], of the output that is shown, in [0, 1].
        called: bool [n], what is decided.
        limit: images of each kind at most.

    Returns:
        ``kind`` (one of ``KINDS``, in their order), ``position`` of the image in ``y_true``, and ``caption``, its
        probability. Images that are called positive come by falling probability, the others by rising.
    """
    true, scores, positive = (np.asarray(values, dtype=np.float64) for values in (y_true, probability, called))
    rows: list[tuple[str, int, str]] = []
    for kind, (label, decision) in zip(KINDS, ((1, 1), (0, 1), (1, 0), (0, 0)), strict=True):
        members = np.flatnonzero((true == label) & (positive == decision))
        surest = members[np.argsort(-scores[members] if decision else scores[members], kind="stable")][:limit]
        rows.extend((kind, int(image), f"{scores[image]:.3f}") for image in surest)
    types = {"kind": "str", "position": "int64", "caption": "str"}
    return pd.DataFrame(rows, columns=list(types)).astype(types)


def heatmap_grid(
    chosen: pd.DataFrame,
    images: NDArray[np.uint8],
    heatmaps: NDArray[np.floating],
    boxes: Sequence[NDArray[np.floating]],
) -> bytes:
    """A row for each kind of decision, in it each image beside its overlay, with its boxes on both.

    Args:
        chosen: from ``choose_images``, n rows of which each belongs to one image: ``kind``, ``caption``.
        images: grey images [n, S, S].
        heatmaps: maps [n, S, S], 0..1.
        boxes: for each image [m, 4], left, top, right, bottom in fractions of its sides; m may be 0.
    """
    if chosen.empty:
        return words("No heat maps: no test image has a known label.")
    kinds = [kind for kind in KINDS if (chosen["kind"] == kind).any()]
    n_pairs = int(chosen["kind"].value_counts().max())
    side = INCHES_DENSE / max(2 * n_pairs, 4)
    with sheet(len(kinds) * (side + 0.45), INCHES_DENSE) as figure:
        panels = figure.subplots(len(kinds), 2 * n_pairs, squeeze=False, subplot_kw={"frame_on": False})
        for axes in panels.flat:
            axes.set(xticks=[], yticks=[])
        for row, kind in zip(panels, kinds, strict=True):
            row[0].set_title(kind, loc="left", fontsize=10)
            for place, image in enumerate(np.flatnonzero(chosen["kind"] == kind).tolist()):
                pair = row[2 * place : 2 * place + 2]
                pair[0].imshow(images[image], cmap="gray", vmin=0, vmax=255)
                pair[0].set_xlabel(chosen["caption"].iloc[image], fontsize=9)
                pair[1].imshow(overlay(images[image], heatmaps[image]))
                for axes in pair:
                    _outline(axes, boxes[image], images.shape[-1])
        return png(figure)


def _outline(axes: "Axes", boxes: NDArray[np.floating], size: int) -> None:
    from matplotlib.patches import Rectangle

    for left, top, right, bottom in boxes:
        corner = (left * size - 0.5, top * size - 0.5)
        axes.add_patch(
            Rectangle(corner, (right - left) * size, (bottom - top) * size, fill=False, edgecolor=ORANGE, linewidth=1.2)
        )
