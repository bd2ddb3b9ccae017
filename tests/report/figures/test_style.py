from io import BytesIO

import matplotlib as mpl
import pytest
from PIL import Image

from cxr_pipeline.report.figures import style


def drawn() -> bytes:
    with style.sheet(height=2) as figure:
        axes = figure.subplots()
        axes.plot([0, 1], [1, 0])
        axes.set_xlabel("costs $5 and $6")
        return style.png(figure)


def test_a_sheet_has_its_size_and_no_metadata_that_changes():
    picture = Image.open(BytesIO(drawn()))
    assert (picture.format, picture.size) == ("PNG", (768, 320))
    assert set(picture.info) <= {"dpi"}


def test_the_settings_of_the_user_change_nothing_and_stay():
    plain = drawn()
    with mpl.rc_context({"axes.facecolor": "red", "font.size": 30, "lines.linewidth": 9}):
        assert drawn() == plain
        assert mpl.rcParams["font.size"] == 30
        with pytest.raises(RuntimeError), style.sheet(height=2):
            raise RuntimeError
        assert mpl.rcParams["font.size"] == 30
