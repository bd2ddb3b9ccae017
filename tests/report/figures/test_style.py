from io import BytesIO

import matplotlib as mpl
import numpy as np
from PIL import Image

from cxr_pipeline.report.figures import style


def drawn() -> bytes:
    with style.sheet(height=2) as figure:
        axes = figure.subplots()
        axes.plot([0, 1], [1, 0])
        axes.set_xlabel("costs $5 and $6")
        return style.png(figure)


def test_a_sheet_is_768_pixels_wide_and_as_high_as_asked():
    picture = Image.open(BytesIO(drawn()))
    assert (picture.format, picture.size) == ("PNG", (768, 320))


def test_the_png_names_neither_a_program_nor_a_date():
    assert set(Image.open(BytesIO(drawn())).info) <= {"dpi"}


def test_the_readers_own_settings_change_nothing_and_stay():
    plain = drawn()
    with mpl.rc_context({"axes.facecolor": "red", "font.size": 30, "lines.linewidth": 9}):
        assert drawn() == plain
        assert mpl.rcParams["font.size"] == 30


def test_the_readers_settings_stay_when_drawing_fails():
    before = mpl.rcParams["font.size"]
    with mpl.rc_context({"font.size": 30}):
        try:
            with style.sheet(height=2):
                raise RuntimeError
        except RuntimeError:
            assert mpl.rcParams["font.size"] == 30
    assert mpl.rcParams["font.size"] == before


def test_words_are_drawn():
    one, other = (np.asarray(Image.open(BytesIO(style.words(text)))) for text in ("No curve.", "No images at all."))
    assert one.min() < 200
    assert not np.array_equal(one, other)
