"""Heat maps over images, and their agreement with boxes drawn by readers.

A heat map that points into the boxes may not be informative, because findings are in the lungs, as is the centre of
most images. Each measure is therefore compared with those of a blob in the centre of the image and of a random point.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from cxr_pipeline.data.sources.nih import SIDES
from cxr_pipeline.evaluation.intervals import measure_mean

FloatArray = NDArray[np.floating]

# Zhang et al. allow 15 pixels, on images of 224.
TOLERANCE = 15 / 224
CENTRED_SIGMA = 0.25
MEASURES = (
    "pointing_game",
    "pointing_game_centred",
    "pointing_game_random",
    "heat_in_box",
    "heat_in_box_centred",
    "box_area",
)

_MAX_WEIGHT = 0.6
_RANKED_SIDE = 64
_NEAR_MAXIMUM = 1e-6


def measure_maps(heatmaps: FloatArray, boxes: Sequence[FloatArray]) -> pd.DataFrame:
    """Compare the heat map of each image with its boxes.

    The pointing game is that of Zhang et al., "Top-down neural attention by excitation backprop", IJCV 126, 2018,
    arXiv:1608.00507.

    Args:
        heatmaps: float [n, S, S], at least 0; a map may be all zeros.
        boxes: for each image float [m, 4]: left, top, right, bottom in fractions of the image, m at least 1.

    Returns:
        A row for each image: ``n_boxes``, and as float64 in [0, 1]

        - ``pointing_game``: whether the maximum of the map lies in a box or within 15/224 of the side of the image
          from one. If several pixels share the maximum, the fraction of them that does. 0 for a map of zeros.
        - ``heat_in_box``: the fraction of the sum of the map inside the boxes, 0 for a map of zeros.
        - ``pointing_game_centred``, ``heat_in_box_centred``: the same for a Gaussian blob in the centre of the image
          with a standard deviation of a quarter of the side.
        - ``pointing_game_random``, ``box_area``: the expected ``pointing_game`` of a random point, and ``heat_in_box``
          of a constant map.
    """
    centres = (np.arange(heatmaps.shape[-1]) + 0.5) / heatmaps.shape[-1]
    along = np.exp(-(((centres - 0.5) / CENTRED_SIGMA) ** 2) / 2)
    blob = np.outer(along, along)
    rows = [_measure_map(heatmap, blob, drawn) for heatmap, drawn in zip(heatmaps, boxes, strict=True)]
    return pd.DataFrame(rows, columns=["n_boxes", *MEASURES])


def localise(measures: pd.DataFrame, patients: ArrayLike | None, *, confidence: float) -> dict[str, Any]:
    """Return ``n_images``, ``n_boxes`` and the `measure_mean` of the ``MEASURES`` over n rows of `measure_maps`."""
    means = {name: measure_mean(measures[name], patients, confidence=confidence) for name in MEASURES}
    return {"n_images": len(measures), "n_boxes": int(measures["n_boxes"].sum()), **means}


def rank_correlation(heatmaps: FloatArray, others: FloatArray) -> NDArray[np.float64]:
    """Compute Spearman's rank correlation of two maps [S, S] of each image, sampled at no more than 64 x 64 points.

    Both arguments are float [n, S, S], the result is float64 [n]. The correlation of constant maps is undefined: it is
    set to 1 if both maps are constant, and to 0 if one is.
    """
    step = -(-heatmaps.shape[-1] // _RANKED_SIDE)
    first, second = (_standardised_ranks(maps[:, ::step, ::step]) for maps in (heatmaps, others))
    both_flat = ~first.any(axis=1) & ~second.any(axis=1)
    return np.where(both_flat, 1.0, (first * second).sum(axis=1))


def choose_explained(
    scores: pd.DataFrame, boxes: pd.DataFrame, outputs: Sequence[str], *, most_boxed: int = 200, most_unboxed: int = 32
) -> pd.DataFrame:
    """Choose the images whose heat maps are evaluated.

    For each output these are at most ``most_boxed`` images with a box of its class or, if there are none, at most
    ``most_unboxed`` images of its class, because the comparison with shuffled weights needs no boxes. Images whose
    label contradicts the box are skipped. The choice depends on the hashes of the images, not on the model.

    Returns:
        A row for each image and class: ``sha256``, ``class``, ``output`` (its index in ``outputs``) and ``group`` (the
        patient, or the image if the patient is unknown).
    """
    patient = scores["source"].str.cat(scores["patient_id"], sep="/")
    images = scores.assign(group=patient.fillna(scores["sha256"])).sort_values("sha256")
    parts = []
    for number, name in enumerate(outputs):
        has_box = images["sha256"].isin(boxes.loc[boxes["class"] == name, "sha256"]) & (images[f"true_{name}"] != 0)
        chosen = images[has_box][:most_boxed] if has_box.any() else images[images[f"true_{name}"] == 1][:most_unboxed]
        parts.append(chosen.assign(output=number).assign(**{"class": str(name)}))
    return pd.concat(parts, ignore_index=True)[["sha256", "class", "output", "group"]]


def boxes_of(boxes: pd.DataFrame, sha256s: Sequence[str], classes: Sequence[str]) -> list[NDArray[np.float64]]:
    """Return the boxes of one class for each of n images: float64 [m, 4], m at least 0, as for `measure_maps`.

    ``boxes`` has ``sha256``, ``class``, ``left``, ``top``, ``right`` and ``bottom`` of each box.
    """
    by_image = {key: rows[list(SIDES)].to_numpy(np.float64) for key, rows in boxes.groupby(["sha256", "class"])}
    return [by_image.get(key, np.empty((0, 4))) for key in zip(sha256s, classes, strict=True)]


def overlay(image: NDArray[np.uint8], heatmap: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Blend a heat map with an image, in the colours of viridis, which is suitable for colour-blind readers.

    A grey image [S, S] and a map in [0, 1] give an RGB image, uint8 [S, S, 3]. The image is unchanged where the map is
    0; where it is 1, the colour has a weight of 0.6.
    """
    from matplotlib import colormaps

    share = _MAX_WEIGHT * np.asarray(heatmap, dtype=np.float64)[..., np.newaxis]
    colors = 255 * colormaps["viridis"](np.asarray(heatmap, dtype=np.float64))[..., :3]
    mixed: NDArray[np.float64] = (1 - share) * image[..., np.newaxis] + share * colors
    return np.rint(mixed).astype(np.uint8)


def _measure_map(heatmap: FloatArray, blob: FloatArray, boxes: FloatArray) -> tuple[float, ...]:
    inside, near = _masks(boxes, len(heatmap))
    hits, shares = [], []
    for each in (heatmap, blob):
        highest, total = each.max(), each.sum(dtype=np.float64)
        hits.append(float(near[each >= highest * (1 - _NEAR_MAXIMUM)].mean()) if highest > 0 else 0.0)
        shares.append(float((each * inside).sum() / total) if total > 0 else 0.0)
    return (len(boxes), *hits, near.mean(), *shares, inside.mean())


def _masks(boxes: FloatArray, size: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the share of each pixel inside the boxes, and whether its centre lies within the tolerance of a box.

    Both are [size, size]; overlaps count once.
    """
    starts, centres, ends = ((np.arange(size) + offset) / size for offset in (0, 0.5, 1))
    inside, near = np.zeros((size, size)), np.zeros((size, size), dtype=bool)
    for left, top, right, bottom in boxes:
        sides = ((left, right), (top, bottom))
        across, down = (np.clip(np.minimum(ends, high) - np.maximum(starts, low), 0, None) for low, high in sides)
        np.maximum(inside, np.outer(down * size, across * size), out=inside)
        aside, above = (np.clip(np.maximum(low - centres, centres - high), 0, None) for low, high in sides)
        near |= np.hypot(above[:, np.newaxis], aside) <= TOLERANCE
    return inside, near


def _standardised_ranks(maps: FloatArray) -> NDArray[np.float64]:
    """Return the ranks of the points of each map with mean 0 and norm 1, float64 [n, points]; zeros if all tie."""
    from scipy.stats import rankdata

    ranks = rankdata(maps.reshape(len(maps), -1), axis=1)
    ranks -= ranks.mean(axis=1, keepdims=True)
    length = np.linalg.norm(ranks, axis=1, keepdims=True)
    standardised: NDArray[np.float64] = np.divide(ranks, length, out=np.zeros_like(ranks), where=length > 0)
    return standardised
