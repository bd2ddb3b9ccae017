from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.phantoms import write_release
from cxr_pipeline.data.sources import nih
from cxr_pipeline.data.sources.boxes import SIDES, read_boxes, read_image_boxes

HEADER = "Image Index,Finding Label,Bbox [x,y,w,h],,,\n"


def write(folder: Path, text: str, name: str = "BBox_List_2017.csv") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder


def files(**names: str | None) -> "pd.Series[str]":
    return pd.Series({f"{image}.png": found for image, found in names.items()}, dtype="str")


def sides(table: pd.DataFrame) -> np.ndarray:
    return table[list(SIDES)].to_numpy()


@pytest.mark.parametrize(
    "text",
    [
        HEADER + "a.png,Mass,256,512,128,64,,,\n",
        "\ufeff" + HEADER + "a.png,Mass,256,512,128,64,,,\n",
        "Image Index,Finding Label,Bbox [x,y,w,h],Unnamed: 6\r\na.png, Mass ,256.0,512.0,128.0,64.0,\r\n",
        'Image Index,Finding Label,"Bbox [x,y,w,h]"\na.png,Mass,256,512,128,64\n',
        'Image Index,Finding Label,"Bbox [x,y,w,h]"\na.png,Mass,"[256, 512, 128, 64]"\n\n',
        'Finding Label,Image Index,"Bbox [x,y,w,h]"\nMass,a.png,"256,512,128,64"\n',
    ],
)
def test_a_box_is_fractions_of_the_image_however_the_table_is_quoted(tmp_path: Path, text: str) -> None:
    boxes = read_boxes(write(tmp_path, text), files(a="BBox_List_2017.csv"))
    assert boxes.columns.tolist() == ["image", "finding", *SIDES]
    assert boxes[["image", "finding"]].to_numpy().tolist() == [["a.png", "Mass"]]
    np.testing.assert_allclose(sides(boxes), [[0.25, 0.5, 0.375, 0.5625]])


def test_infiltrate_is_the_label_infiltration(tmp_path: Path) -> None:
    write(tmp_path, HEADER + "a.png,Infiltrate,1,1,9,9\n")
    assert read_boxes(tmp_path, files(a="BBox_List_2017.csv"))["finding"].tolist() == ["Infiltration"]


def test_a_image_gets_the_boxes_of_the_tables_that_it_names_and_each_once(tmp_path: Path) -> None:
    write(tmp_path, HEADER + "a.png,Mass,0,0,512,512\na.png,Mass,0,0,512,512\nb.png,Mass,0,0,9,9\nc.png,Mass,0,0,8,8\n")
    write(tmp_path, HEADER + "a.png,Mass,0,0,512,512\na.png,Nodule,0,0,10,10\nb.png,Nodule,0,0,7,7\n", "BBox_RSNA.csv")
    boxes = read_boxes(tmp_path, files(a="BBox_List_2017.csv|BBox_RSNA.csv", b="BBox_RSNA.csv", d=None))
    found = boxes[["image", "finding"]].to_numpy().tolist()
    assert found == [["a.png", "Mass"], ["a.png", "Nodule"], ["b.png", "Nodule"]]


def test_what_lies_outside_the_image_is_cut_off(tmp_path: Path) -> None:
    write(tmp_path, HEADER + "a.png,Mass,-64,512,256,1024\n")
    np.testing.assert_allclose(sides(read_boxes(tmp_path, files(a="BBox_List_2017.csv"))), [[0, 0.5, 0.1875, 1]])


def test_without_boxes_there_is_an_empty_table_of_the_same_types(tmp_path: Path) -> None:
    none = read_boxes(tmp_path, files(a=None))
    some = read_boxes(write(tmp_path, HEADER + "a.png,Mass,1,1,9,9\n"), files(a="BBox_List_2017.csv"))
    assert none.empty
    assert none.dtypes.to_dict() == some.dtypes.to_dict()


@pytest.mark.parametrize("name", ["../BBox_List_2017.csv", "/etc/passwd", "sub\\BBox.csv", "..", ""])
def test_a_name_with_a_path_in_it_is_refused(tmp_path: Path, name: str) -> None:
    inside = tmp_path / "source"
    inside.mkdir()
    write(tmp_path, HEADER + "a.png,Mass,1,1,9,9\n")
    with pytest.raises(UserError, match="by a path"):
        read_boxes(inside, files(a=name))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no column Image Index, Finding Label, Bbox"),
        ("Image Index,Finding Label\na.png,Mass\n", "no column Bbox"),
        (HEADER + "a.png,Mass,1,1,9\n", "row 2 is no box"),
        (HEADER + "a.png\n", "row 2 is no box"),
        (HEADER + "a.png,Mass,1,1,9,9\na.png,Mass,1,x,9,9\n", "row 3 is no box"),
        (HEADER + "a.png,Mass,1,1,0,9\n", "nothing of it"),
        (HEADER + "a.png,Mass,1,1,9,-9\n", "nothing of it"),
        (HEADER + "a.png,Mass,1100,1,9,9\n", "nothing of it"),
        (HEADER + "a.png,Mass,nan,1,9,9\n", "nothing of it"),
    ],
)
def test_a_broken_table_says_where_and_what(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(UserError, match=f"BBox_List_2017.csv cannot be read as a table of boxes: .*{reason}"):
        read_boxes(write(tmp_path, text), files(a="BBox_List_2017.csv"))


def test_a_table_that_is_gone_or_no_text_is_a_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_boxes(tmp_path, files(a="BBox_List_2017.csv"))
    (tmp_path / "BBox_List_2017.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="cannot be read"):
        read_boxes(tmp_path, files(a="BBox_List_2017.csv"))


def test_images_of_several_sources_get_their_own_boxes(tmp_path: Path) -> None:
    for source, finding in (("one", "Mass"), ("two", "Nodule")):
        (tmp_path / source).mkdir()
        write(tmp_path / source, HEADER + f"a.png,{finding},0,0,512,512\n")
    images = pd.DataFrame(
        {
            "source": ["one", "two", "three"],
            "image": "a.png",
            "sha256": ["1", "2", "3"],
            "box_file": ["BBox_List_2017.csv", "BBox_List_2017.csv", None],
        }
    )
    boxes = read_image_boxes({source: tmp_path / source for source in ("one", "two", "three")}, images)
    assert set(boxes) == {"sha256", "finding", *SIDES}
    assert boxes[["sha256", "finding"]].to_numpy().tolist() == [["1", "Mass"], ["2", "Nodule"]]
    nothing = read_image_boxes({}, images[2:])
    assert nothing.empty
    assert set(nothing) == set(boxes)


def test_every_box_of_a_phantom_release_is_read(tmp_path: Path) -> None:
    write_release(tmp_path / "phantoms", n_patients=12, size=64, prevalence={"Effusion": 0.9, "Mass": 0.5}, seed=1)
    images = nih.read(tmp_path / "phantoms").images.set_index("image")
    boxes = read_boxes(tmp_path / "phantoms", images["box_file"])
    assert set(boxes["image"]) == set(images.index[images["labels"] != "No Finding"])
    assert set(boxes["finding"]) == {"Effusion", "Mass"}
    for finding in ("Effusion", "Mass"):
        labelled = set(images.index[images["labels"].str.contains(finding)])
        assert set(boxes.loc[boxes["finding"] == finding, "image"]) == labelled


def test_every_box_of_the_real_release_has_a_known_label(shared_data: Path) -> None:
    folder, names = shared_data / "nih", ["BBox_List_2017.csv", "BBox_RSNA.csv"]
    named = [pd.read_csv(folder / name)["Image Index"].unique() for name in names]
    images = pd.Series("|".join(names), index=np.union1d(*named), dtype="str")
    boxes = read_boxes(folder, images)
    assert len(boxes) > 1000
    assert set(boxes["image"]) == set(images.index)
    assert set(boxes["finding"]) < set(nih.LABELS)
