from io import BytesIO

from PIL import Image

from cxr_pipeline.report.figures import style


def drawn():
    with style.sheet(height=2) as figure:
        axes = figure.subplots()
        axes.plot([0, 1], [1, 0])
        axes.set_xlabel("costs $5 and $6")
        return style.png(figure)


def test_a_sheet_has_its_size_and_no_metadata_that_changes():
    picture = Image.open(BytesIO(drawn()))
    assert (picture.format, picture.size) == ("PNG", (768, 320))
    assert set(picture.info) <= {"dpi"}
