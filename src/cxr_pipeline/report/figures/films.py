"""Pictures made of films."""

import textwrap
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cxr_pipeline.report.figures.style import INCHES_DENSE, png, sheet, words

SAMPLES_WIDE = 5


def mistakes(films: NDArray[np.uint8], captions: Sequence[str]) -> bytes:
    """Films in rows of three, each above its caption.

    Args:
        films: grey films [n, S, S].
        captions: one for each film; long ones are wrapped.
    """
    if not len(films):
        return words("No test film was decided wrongly.")
    n_rows = -(-len(films) // 3)
    with sheet(height=2.05 * n_rows) as figure:
        panels = figure.subplots(n_rows, 3, squeeze=False, subplot_kw={"frame_on": False, "xticks": [], "yticks": []})
        for place, (film, caption) in enumerate(zip(films, captions, strict=True)):
            axes = panels.flat[place]
            axes.imshow(film, cmap="gray", vmin=0, vmax=255)
            axes.set_xlabel(textwrap.fill(caption, 22, max_lines=3), fontsize=9)
        return png(figure)


def augmentation_preview(films: NDArray[np.uint8]) -> bytes:
    """Each row one film: the original, then views as they are shown in training.

    Args:
        films: grey films [n, views, S, S], the original first.
    """
    n_films, n_views = films.shape[:2]
    if not films.size:
        return words("No film was augmented.")
    with sheet(height=0.3 + 4.4 * n_films / n_views) as figure:
        panels = figure.subplots(n_films, n_views, squeeze=False)
        for (row, view), axes in np.ndenumerate(panels):
            axes.set_axis_off()
            axes.imshow(films[row, view], cmap="gray", vmin=0, vmax=255)
            if row == 0:
                axes.set_title("original" if view == 0 else f"view {view}", fontsize=9)
        return png(figure)


def class_samples(films: NDArray[np.uint8], names: Sequence[str]) -> bytes:
    """A film of each class above its name, in rows of up to five.

    Args:
        films: grey films [n, S, S].
        names: one for each film.
    """
    if not len(films):
        return words("No class has a training film.")
    n_wide = min(SAMPLES_WIDE, len(films))
    n_rows = -(-len(films) // n_wide)
    with sheet(height=n_rows * (INCHES_DENSE / n_wide + 0.25), width=INCHES_DENSE) as figure:
        panels = figure.subplots(
            n_rows, n_wide, squeeze=False, subplot_kw={"frame_on": False, "xticks": [], "yticks": []}
        )
        for axes, (film, name) in zip(panels.flat, zip(films, names, strict=True), strict=False):
            axes.imshow(film, cmap="gray", vmin=0, vmax=255)
            axes.set_xlabel(textwrap.fill(name, 20), fontsize=10)
        return png(figure)
