"""One look for every figure, and the same bytes for the same drawing.

Nothing here touches ``pyplot``, a display or the reader's ``matplotlibrc``. Colours are those of Okabe and
Ito (2008), which colour-blind readers tell apart.
"""

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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
    "text.parse_math": False,
}
INCHES_WIDE, INCHES_DENSE, DOTS_PER_INCH = 4.8, 7.2, 160


@contextmanager
def sheet(height: float, width: float = INCHES_WIDE) -> "Iterator[Figure]":
    """An empty figure, ``width`` x ``height`` inches; the caller's settings stay as they were."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield Figure(figsize=(width, height), dpi=DOTS_PER_INCH, layout="constrained")


def png(figure: "Figure") -> bytes:
    """The figure as PNG, 160 dots an inch, without a date or the name of a program."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = BytesIO()
    FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    return buffer.getvalue()


def words(text: str) -> bytes:
    """A figure that says why there is nothing to draw, as PNG."""
    with sheet(height=1.6) as figure:
        figure.text(0.5, 0.5, textwrap.fill(text, 40), ha="center", va="center", color=GREY)
        return png(figure)
