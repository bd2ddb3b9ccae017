import pandas as pd
import pytest
from samples import write_files

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.sources import nih
from cxr_pipeline.data.sources.boxes import SIDES, read_boxes

LIST = "BBox_List_2017.csv"
HEADER = "Image Index,Finding Label,Bbox [x,y,w,h],,,\n"


def read(folder, **box_files):
    """Read the boxes of images of one source; the hash of an image is its name."""
    images = list(box_files)
    rows = pd.DataFrame({"source": "s", "image": [f"{name}.png" for name in images], "sha256": images})
    return read_boxes({"s": folder}, rows.assign(box_file=pd.Series(box_files.values(), dtype="str")))


@pytest.mark.parametrize(
    ("text", "sides"),
    [
        (HEADER + "a.png,Mass,256,512,128,64,,,\n", [0.25, 0.5, 0.375, 0.5625]),
        ("\ufeff" + HEADER + "a.png,Mass,256,512,128,64,,,\n", [0.25, 0.5, 0.375, 0.5625]),
        (
            "Image Index,Finding Label,Bbox [x,y,w,h],Unnamed: 6\r\na.png, Mass ,256.0,512.0,128.0,64.0,\r\n\n",
            [0.25, 0.5, 0.375, 0.5625],
        ),
        (HEADER + "a.png,Mass,-64,512,256,1024\n", [0, 0.5, 0.1875, 1]),
    ],
    ids=["release", "byte order mark", "other spaces and numbers", "clipped to the image"],
)
def test_a_box_in_fractions_of_the_image(tmp_path, text, sides):
    (tmp_path / LIST).write_text(text, encoding="utf-8")
    boxes = read(tmp_path, a=LIST)
    assert boxes.to_numpy().tolist() == [["a", "Mass", *sides]]
    assert boxes.columns.tolist() == ["sha256", "finding", *SIDES]
    none = read(tmp_path, a=None)
    assert none.empty
    assert none.dtypes.to_dict() == boxes.dtypes.to_dict()


def test_each_box_of_the_lists_of_an_image_once(tmp_path):
    rows = "a.png,Mass,0,0,9,9\na.png,Mass,0,0,9,9\nb.png,Mass,0,0,9,9\nc.png,Mass,0,0,8,8\n"
    (tmp_path / LIST).write_text(HEADER + rows)
    rows = "a.png,Mass,0,0,9,9\na.png,Infiltrate,0,0,1,1\nb.png,Nodule,0,0,7,7\n"
    (tmp_path / "BBox_RSNA.csv").write_text(HEADER + rows)
    boxes = read(tmp_path, a=f"{LIST}|BBox_RSNA.csv", b="BBox_RSNA.csv", d=None)
    assert boxes[["sha256", "finding"]].to_numpy().tolist() == [["a", "Mass"], ["a", "Infiltration"], ["b", "Nodule"]]


@pytest.mark.parametrize("name", [f"../{LIST}", "/etc/passwd", "sub\\BBox.csv", "BBox/../../BBox.csv", "..", ""])
def test_a_list_outside_the_source_is_not_read(tmp_path, name):
    write_files(tmp_path, LIST, "source/a.png")
    with pytest.raises(UserError, match="as a box list; expected the name of a file"):
        read(tmp_path / "source", a=name)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Image Index,Finding Label\na.png,Mass\n", "expected 6 and found 2"),
        (HEADER + "a.png,Mass,1,1,9,9\na.png,Mass,1,x,9,9\n", "row 3 is not a box in the image: 1, x, 9, 9"),
        (HEADER + "a.png,Mass,1,1,0,9\n", "row 2 is not a box"),
        (HEADER + "a.png,Mass,1,1,9,-9\n", "row 2 is not a box"),
        (HEADER + "a.png,Mass,1100,1,9,9\n", "row 2 is not a box"),
        ("\udcff\udcfe", "codec can't decode"),
        (None, "it does not exist"),
    ],
)
def test_a_damaged_list(tmp_path, text, reason):
    if text is not None:
        (tmp_path / LIST).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match=f"{LIST} cannot be read: .*{reason}"):
        read(tmp_path, a=LIST)


def test_images_of_several_sources(tmp_path):
    for source, finding in (("one", "Mass"), ("two", "Nodule")):
        (tmp_path / source).mkdir()
        (tmp_path / source / LIST).write_text(HEADER + f"a.png,{finding},0,0,512,512\n")
    rows = pd.DataFrame({"source": ["one", "two", "three"], "image": "a.png", "sha256": ["1", "2", "3"]})
    rows = rows.assign(box_file=pd.Series([LIST, LIST, None], dtype="str"))
    boxes = read_boxes({source: tmp_path / source for source in rows["source"]}, rows)
    assert boxes[["sha256", "finding"]].to_numpy().tolist() == [["1", "Mass"], ["2", "Nodule"]]


def test_every_box_of_the_real_release_has_a_known_label(shared_data):
    names = [LIST, "BBox_RSNA.csv"]
    images = pd.concat([pd.read_csv(shared_data / "nih" / name)["Image Index"] for name in names]).unique()
    rows = pd.DataFrame({"source": "s", "image": images, "sha256": images, "box_file": "|".join(names)})
    boxes = read_boxes({"s": shared_data / "nih"}, rows)
    assert set(boxes["sha256"]) == set(images)
    assert set(boxes["finding"]) < set(nih.LABELS)
