"""The common style of all figures; the same drawing always gives the same bytes.

Nothing here uses ``pyplot``, a display or the user's ``matplotlibrc``. Colours are those of Okabe and Ito (2008), which
colour-blind readers can distinguish.
"""

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import matplotlib
    from matplotlib.figure import Figure

Axes: TypeAlias = "matplotlib.axes.Axes"  # Importing matplotlib here would slow down commands that draw nothing.
BLUE, ORANGE, GREY, LIGHT = "#0072B2", "#D55E00", "#5F6368", "#E4E6E8"
STYLE = {
    "font.size": 11,
    "axes.titlesize": 11,
    "axes.edgecolor": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LIGHT,
    "lines.linewidth": 2.0,
    "legend.fontsize": 10,
    "legend.edgecolor": "none",
    # Names of models and classes may contain dollar signs.
    "text.parse_math": False,
}
# Radiographs are shown on a dark sheet, the colour of a page in the dark. Pages invert all other figures there.
PHOTOS: dict[str, Any] = {"figure.facecolor": "#16191c", "text.color": "#e6e8ea", "axes.labelcolor": "#e6e8ea"}
INCHES_WIDE, INCHES_DENSE, DOTS_PER_INCH = 4.8, 7.2, 160


@contextmanager
def sheet(height: float, width: float = INCHES_WIDE, **style: Any) -> "Iterator[Figure]":
    """Open an empty figure of a size in inches, without changing the user's settings.

    ``style`` are further matplotlib parameters, such as ``lines.linewidth``.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE | style)
        yield Figure(figsize=(width, height), dpi=DOTS_PER_INCH, layout="constrained")


def png(figure: "Figure") -> bytes:
    """Return a figure as PNG with 160 dots per inch, without metadata that changes, such as the date."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = BytesIO()
    FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    return buffer.getvalue()


def panels(figure: "Figure", n: int, n_wide: int, **options: Any) -> list[Axes]:
    """Add n panels in rows of ``n_wide``; ``options`` are those of ``Figure.subplots``."""
    grid = figure.subplots(-(-n // n_wide), n_wide, squeeze=False, **options).ravel()
    for axes in grid[n:]:
        axes.remove()
    return list(grid[:n])


def integer_axis(axes: Axes) -> None:
    """Label the x axis with whole numbers, at least one."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def message(text: str, **style: Any) -> bytes:
    """Return a PNG with a message instead of a figure."""
    with sheet(height=1.6, **style) as figure:
        figure.text(0.5, 0.5, textwrap.fill(text, 40), ha="center", va="center")
        return png(figure)
