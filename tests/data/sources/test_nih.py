"""Tests of the layout ``nih``, on small releases written here and on the real table."""

import gzip
from pathlib import Path

import pytest

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.sources.nih import LABELS, holds_images, read

HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,OriginalImage[Width"
)
ROWS = (
    "00000001_000.png,Effusion|Mass,0,1,058Y,M,PA,2682",
    "00000001_001.png,No Finding,1,1,58,M,AP,2682",
    "00000002_000.png,Hernia,0,2,414,F,PA,2500",
    "00000003_000.png,Effusion,0,3,006M,,,2500",
)


def write_release(folder: Path, rows: tuple[str, ...] = ROWS, header: str = HEADER, on_disk: int = 3) -> Path:
    (folder / "images").mkdir(parents=True)
    (folder / "Data_Entry_2017.csv").write_text("\n".join([header, *rows]) + "\n")
    for row in rows[:on_disk]:
        (folder / "images" / row.split(",")[0]).write_text(row)
    return folder


def test_rows_of_the_table(tmp_path: Path) -> None:
    listing = read(write_release(tmp_path, on_disk=4))
    images = listing.images.set_index("image")
    assert images["path"].tolist() == [f"images/{image}" for image in images.index]
    assert images["patient_id"].tolist() == ["1", "1", "2", "3"]
    assert images["labels"].tolist() == ["Effusion|Mass", "No Finding", "Hernia", "Effusion"]
    assert images["view"].tolist()[:3] == ["PA", "AP", "PA"]
    assert images["sex"].tolist()[:3] == ["M", "M", "F"]
    assert images.loc["00000003_000.png", ["view", "sex", "given_split", "box_file"]].isna().all()
    assert images["age"].fillna(-1).tolist() == [58.0, 58.0, -1.0, 0.5]
    assert listing.vocabulary == set(LABELS)
    assert len(LABELS) == 15


@pytest.mark.parametrize("blank", ["", "  "])
def test_of_a_image_without_labels_nothing_is_known(tmp_path: Path, blank: str) -> None:
    release = write_release(tmp_path, (*ROWS[:1], f"00000009_000.png,{blank},0,9,058Y,M,PA,2682"))
    (release / "images" / "00000009_000.png").write_text("an image")
    assert read(release).images["labels"].isna().tolist() == [False, True]


def test_images_that_are_not_on_disk_are_counted_only(tmp_path: Path) -> None:
    listing = read(write_release(tmp_path, on_disk=1))
    assert (len(listing.images), len(listing.refused), listing.n_missing, listing.n_rows) == (1, 0, 3, 4)


def test_images_in_several_folders(tmp_path: Path) -> None:
    write_release(tmp_path, on_disk=1)
    for folder, image in [("images_001/images", "00000001_001.png"), ("images_002", "00000002_000.png")]:
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / image).write_text(image)
    (tmp_path / "images_002" / "00000001_000.png").write_text("again")
    (tmp_path / "images_002" / "stranger.png").write_text("stranger")
    listing = read(tmp_path)
    assert listing.images["path"].tolist() == [
        "images/00000001_000.png",
        "images_001/images/00000001_001.png",
        "images_002/00000002_000.png",
    ]
    assert "Images on disk that the table does not name: 1." in listing.notes
    assert "Images on disk under a name that another folder has too, not read: 1." in listing.notes


def test_a_table_with_a_bom_and_gzip(tmp_path: Path) -> None:
    write_release(tmp_path)
    table = tmp_path / "Data_Entry_2017.csv"
    with gzip.open(tmp_path / "Data_Entry_2017_v2020.csv.gz", "wb") as file:
        file.write(b"\xef\xbb\xbf" + table.read_bytes())
    table.write_text("an older table")
    assert len(read(tmp_path).images) == 3


@pytest.mark.parametrize("column", ["Image Index", "Finding Labels", "Patient ID", "Patient Gender"])
def test_a_missing_column_is_named(tmp_path: Path, column: str) -> None:
    write_release(tmp_path, header=HEADER.replace(column, "Something"))
    with pytest.raises(UserError) as error:
        read(tmp_path)
    for part in (column, "Data_Entry_2017.csv", "Something", "View Position"):
        assert part in str(error.value)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00bad", b'"Image Index\n', b"\x1f\x8b\x08\x00broken"])
def test_a_table_that_is_none(tmp_path: Path, content: bytes) -> None:
    write_release(tmp_path)
    for name in ("Data_Entry_2017.csv", "Data_Entry_2017_v2020.csv.gz"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=name):
            read(tmp_path)


def test_no_table(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_text("image")
    assert not holds_images(tmp_path)
    with pytest.raises(UserError, match="Data_Entry_2017"):
        read(tmp_path)


def test_only_a_header(tmp_path: Path) -> None:
    assert read(write_release(tmp_path, rows=())).n_rows == 0


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "images\\a.png", ".."])
def test_a_name_that_is_a_path_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret.png").write_text("secret")
    folder = write_release(tmp_path / "source", rows=(*ROWS, f"{name},Effusion,0,9,50,M,PA,1"))
    (folder / "images" / "images\\a.png").write_text("a name that is a path elsewhere")
    listing = read(folder)
    assert listing.refused[["image", "reason"]].to_numpy().tolist() == [[name, "outside_source"]]
    assert listing.n_rows == 5


def test_rows_that_contradict_each_other(tmp_path: Path) -> None:
    rows = (
        "a.png,Effusion,0,1,50,M,PA,1",
        "a.png,No Finding,0,1,50,M,PA,1",
        "b.png,Effusion|Mass,0,2,50,M,PA,1",
        "b.png,Mass|Effusion,0,2,50,M,PA,1",
        "c.png,No Finding|Mass,0,3,50,M,PA,1",
        "d.png,Mass,0,4,50,M,PA,1",
        "gone.png,Mass,0,4,50,M,PA,1",
        "gone.png,Effusion,0,4,50,M,PA,1",
    )
    listing = read(write_release(tmp_path, rows=rows, on_disk=6))
    assert listing.images["image"].tolist() == ["b.png", "d.png"]
    assert sorted(listing.refused[["image", "reason"]].itertuples(index=False, name=None)) == [
        ("a.png", "contradicting_labels"),
        ("a.png", "contradicting_labels"),
        ("b.png", "exact_duplicate"),
        ("c.png", "contradicting_labels"),
    ]
    assert (listing.n_missing, listing.n_rows) == (2, 8)


def test_official_lists(tmp_path: Path) -> None:
    write_release(tmp_path)
    (tmp_path / "train_val_list.txt").write_text("\ufeff00000001_000.png\r\n00000001_001.png\r\n")
    alone = read(tmp_path)
    assert alone.images["given_split"].isna().all()
    assert any("train_val_list.txt was not used" in note for note in alone.notes)
    (tmp_path / "test_list.txt").write_text("00000002_000.png")
    both = read(tmp_path)
    assert both.images["given_split"].tolist() == ["train", "train", "test"]


def test_official_lists_that_contradict_each_other(tmp_path: Path) -> None:
    write_release(tmp_path)
    for name in ("train_val_list.txt", "test_list.txt"):
        (tmp_path / name).write_text("00000001_000.png\n")
    with pytest.raises(UserError, match=r"1 images are in both .*00000001_000\.png"):
        read(tmp_path)


def test_box_files(tmp_path: Path) -> None:
    write_release(tmp_path)
    box = "Image Index,Finding Label,Bbox [x,y,w,h]\n00000001_000.png,Effusion,1,2,3,4\n"
    (tmp_path / "BBox_List_2017.csv").write_text(box)
    (tmp_path / "BBox_RSNA.csv").write_text(box + "00000002_000.png,Pneumonia,1,2,3,4\n")
    assert read(tmp_path).images["box_file"].fillna("").tolist() == [
        "BBox_List_2017.csv|BBox_RSNA.csv",
        "",
        "BBox_RSNA.csv",
    ]


def test_the_real_release(shared_data: Path) -> None:
    listing = read(shared_data / "nih")
    assert (listing.n_rows, len(listing.images), len(listing.refused)) == (112_120, 1245, 0)
    assert listing.images["given_split"].isna().all()
    assert (shared_data / "nih" / listing.images["path"].iloc[0]).is_file()
    assert listing.images["age"].between(0, 120).all()
    assert listing.images["box_file"].str.contains("BBox_RSNA.csv").sum() > 0
    assert "Labels are from Data_Entry_2017_v2020.csv.gz." in listing.notes
