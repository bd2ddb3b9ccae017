"""Tests of the layout ``nih``, on small releases written here and on the real table."""

import gzip

import pandas as pd
import pytest
from samples import texts, write_files
from samples.nih import HEADER, write_release

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.sources.nih import LABELS, SIDES, read, read_boxes

LIST = "BBox_List_2017.csv"
BOX_HEADER = "Image Index,Finding Label,Bbox [x,y,w,h],,,\n"


@pytest.mark.parametrize("sex", ["Patient Gender", "Patient Sex"])
def test_rows_of_the_table(tmp_path, sex):
    listing = read(write_release(tmp_path, header=HEADER.replace("Patient Gender", sex), on_disk=4))
    images = listing.images
    assert images["path"].tolist() == [f"images/{image}" for image in images["image"]]
    assert images["patient_id"].tolist() == ["1", "1", "2", "3"]
    assert texts(images["labels"]) == ["Effusion|Mass", "No Finding", "Hernia", None]
    assert texts(images["view"]) == ["PA", "AP", "PA", None]
    assert texts(images["sex"]) == ["M", "M", "F", None]
    assert texts(images["age"]) == [58.0, 58.0, None, 0.5]
    assert images[["given_split", "box_file"]].isna().all(axis=None)
    assert listing.vocabulary == set(LABELS)
    assert len(LABELS) == 15


def test_images_in_several_folders(tmp_path):
    write_release(tmp_path, on_disk=1)
    write_files(tmp_path / "images_001", "images/00000001_001.png")
    write_files(tmp_path / "images_002", "00000002_000.png", "00000001_000.png", "stranger.png")
    listing = read(tmp_path)
    assert listing.images["path"].tolist() == [
        "images/00000001_000.png",
        "images_001/images/00000001_001.png",
        "images_002/00000002_000.png",
    ]
    assert listing.n_missing == 1
    assert listing.notes[1:] == (
        "Images on disk that the table does not name: 1.",
        "Images on disk with the name of an image in another folder, which were not read: 1.",
    )


def test_the_last_table_by_name_is_read(tmp_path):
    write_release(tmp_path)
    table = tmp_path / "Data_Entry_2017.csv"
    with gzip.open(tmp_path / "Data_Entry_2017_v2020.csv.gz", "wb") as file:
        file.write(b"\xef\xbb\xbf" + table.read_bytes())
    table.write_text("an older table")
    assert len(read(tmp_path).images) == 3


def test_official_lists(tmp_path):
    write_release(tmp_path)
    (tmp_path / "train_val_list.txt").write_text("\ufeff00000001_000.png\r\n00000001_001.png\r\n")
    alone = read(tmp_path)
    assert alone.images["given_split"].isna().all()
    assert "train_val_list.txt was not used: the other official list is missing." in alone.notes
    (tmp_path / "test_list.txt").write_text("00000002_000.png")
    assert read(tmp_path).images["given_split"].tolist() == ["train", "train", "test"]
    (tmp_path / "test_list.txt").write_text("00000001_000.png")
    with pytest.raises(UserError, match=r"1 images are in both .*00000001_000\.png"):
        read(tmp_path)


def test_box_files(tmp_path):
    write_release(tmp_path)
    box = "Image Index,Finding Label,Bbox [x,y,w,h]\n00000001_000.png,Effusion,1,2,3,4\n"
    (tmp_path / "BBox_List_2017.csv").write_text(box)
    (tmp_path / "BBox_RSNA.csv").write_text(box + "00000002_000.png,Pneumonia,1,2,3,4\n")
    assert texts(read(tmp_path).images["box_file"]) == ["BBox_List_2017.csv|BBox_RSNA.csv", None, "BBox_RSNA.csv"]


def test_the_real_release(shared_data):
    listing = read(shared_data / "nih")
    assert (listing.n_rows, len(listing.images), len(listing.refused)) == (112_120, 1245, 0)
    assert (shared_data / "nih" / listing.images["path"].iloc[0]).is_file()
    assert listing.images["box_file"].str.contains("BBox_RSNA.csv").sum() > 0


def boxes_of(folder, **box_files):
    """Read the boxes of images of one source; the hash of an image is its name."""
    images = list(box_files)
    rows = pd.DataFrame({"source": "s", "image": [f"{name}.png" for name in images], "sha256": images})
    return read_boxes({"s": folder}, rows.assign(box_file=pd.Series(box_files.values(), dtype="str")))


ROW = "a.png,Mass,256,512,128,64,,,\n"
OTHER = "Image Index,Finding Label,Bbox [x,y,w,h],Unnamed: 6\r\na.png, Mass ,256.0,512.0,128.0,64.0,\r\n\n"


def test_a_box_in_fractions_of_the_image(tmp_path):
    for text in (BOX_HEADER + ROW, "\ufeff" + BOX_HEADER + ROW, OTHER):
        (tmp_path / LIST).write_text(text, encoding="utf-8")
        assert boxes_of(tmp_path, a=LIST).to_numpy().tolist() == [["a", "Mass", 0.25, 0.5, 0.375, 0.5625]]
    (tmp_path / LIST).write_text(BOX_HEADER + "a.png,Mass,-64,512,256,1024\n")
    clipped, none = boxes_of(tmp_path, a=LIST), boxes_of(tmp_path, a=None)
    assert clipped.to_numpy().tolist() == [["a", "Mass", 0, 0.5, 0.1875, 1]]
    assert clipped.columns.tolist() == ["sha256", "finding", *SIDES]
    assert none.empty
    assert none.dtypes.equals(clipped.dtypes)


def test_each_box_of_the_lists_of_an_image_once(tmp_path):
    rows = "a.png,Mass,0,0,9,9\na.png,Mass,0,0,9,9\nb.png,Mass,0,0,9,9\nc.png,Mass,0,0,8,8\n"
    (tmp_path / LIST).write_text(BOX_HEADER + rows)
    rows = "a.png,Mass,0,0,9,9\na.png,Infiltrate,0,0,1,1\nb.png,Nodule,0,0,7,7\n"
    (tmp_path / "BBox_RSNA.csv").write_text(BOX_HEADER + rows)
    boxes = boxes_of(tmp_path, a=f"{LIST}|BBox_RSNA.csv", b="BBox_RSNA.csv", d=None)
    assert boxes[["sha256", "finding"]].to_numpy().tolist() == [["a", "Mass"], ["a", "Infiltration"], ["b", "Nodule"]]


@pytest.mark.parametrize("name", [f"../{LIST}", "/etc/passwd", "sub\\BBox.csv", "BBox/../../BBox.csv", "..", ""])
def test_a_list_outside_the_source_is_not_read(tmp_path, name):
    write_files(tmp_path, LIST, "source/a.png")
    with pytest.raises(UserError, match="as a box list; expected the name of a file"):
        boxes_of(tmp_path / "source", a=name)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Image Index,Finding Label\na.png,Mass\n", "expected 6 and found 2"),
        (BOX_HEADER + "a.png,Mass,1,1,9,9\na.png,Mass,1,x,9,9\n", "row 3 is not a box in the image: 1, x, 9, 9"),
        (BOX_HEADER + "a.png,Mass,1,1,0,9\n", "row 2 is not a box"),
        (BOX_HEADER + "a.png,Mass,1,1,9,-9\n", "row 2 is not a box"),
        (BOX_HEADER + "a.png,Mass,1100,1,9,9\n", "row 2 is not a box"),
        ("\udcff\udcfe", "codec can't decode"),
        (None, "it does not exist"),
    ],
)
def test_a_damaged_list(tmp_path, text, reason):
    if text is not None:
        (tmp_path / LIST).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match=f"{LIST} cannot be read: .*{reason}"):
        boxes_of(tmp_path, a=LIST)
