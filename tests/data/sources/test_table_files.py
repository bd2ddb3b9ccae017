"""Tests of reading tables as programs write them."""

import gzip

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from samples import list_table, texts, write_files

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.sources import table_files
from cxr_pipeline.data.sources.label_table import read
from cxr_pipeline.data.sources.label_tables import Columns
from cxr_pipeline.data.sources.table_files import read_table

ROWS = [["Bild", "Erguß", "Alter"], ["a.png", "ja", "45"], ["b, c.png", "nein", "67"]]
EXPECTED = {"Bild": ["a.png", "b, c.png"], "Erguß": ["ja", "nein"]}


def joined(separator, rows=ROWS, end="\r\n"):
    quoted = [[f'"{cell}"' if separator in cell else cell for cell in row] for row in rows]
    return "".join(separator.join(row) + end for row in quoted)


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16"])
@pytest.mark.parametrize("compressed", [False, True])
def test_separators_and_encodings(tmp_path, separator, encoding, compressed):
    content = joined(separator).encode(encoding)
    file = tmp_path / ("t.csv.gz" if compressed else "t.csv")
    file.write_bytes(gzip.compress(content) if compressed else content)
    assert read_table(file, ["Bild", "Erguß"]).to_dict("list") == EXPECTED


@pytest.mark.parametrize(
    "text",
    [
        "sep=;\r\n" + joined(";"),
        joined(";") + ";;\r\n;;\r\n",
        "".join(line + ";\r\n" for line in joined(";").splitlines()),
        joined(";").splitlines()[0] + "\r\n" + "".join(line + ";\r\n" for line in joined(";").splitlines()[1:]),
        ";Bild;Erguß\n0;a.png;ja\n1;b, c.png;nein\n",
        "Bild;Erguß\n1;a.png;ja\n2;b, c.png;nein\n",
        "nr;a,b;BILD ;erguss\n0;x;a.png;ja\n1;;b, c.png;nein\n",
    ],
    ids=["sep=", "empty rows", "separators at ends", "at ends of rows", "index", "row names of R", "other spellings"],
)
def test_exports(tmp_path, text):
    (tmp_path / "t.csv").write_text(text)
    assert read_table(tmp_path / "t.csv", ["Bild", "Erguß"]).to_dict("list") == EXPECTED


@pytest.mark.parametrize(
    ("header", "cell"), [("label, label", "a"), ("LABEL,label", "b"), ("Label , x", "a"), ("image,l_abel", "b")]
)
def test_the_nearest_spelling_of_a_column(tmp_path, header, cell):
    (tmp_path / "t.csv").write_text(f"{header}\na,b\n")
    assert texts(read_table(tmp_path / "t.csv", ["label"])["label"]) == [cell]


@pytest.mark.parametrize("header", ["label,label", " label,label ", "Label,LABEL", "la bel,la_bel"])
def test_two_columns_that_may_be_meant_are_named(tmp_path, header):
    (tmp_path / "t.csv").write_text(f"{header}\na,b\n")
    first, second = header.split(",")
    with pytest.raises(UserError, match=rf"several columns label: '{first}' \(column 1\) and '{second}' \(column 2\)"):
        read_table(tmp_path / "t.csv", ["label"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04 a workbook", "workbook of a spreadsheet program or an archive; save it as CSV"),
        ("a,b".encode("utf-16-le"), "it contains zero bytes; save it in UTF-8"),
        (b"a,b\n\0\n", "it contains zero bytes; save it in UTF-8"),
        (",".join(f"{number}{'x' * 1000}" for number in range(1000)).encode(), "no column a.* and 992 more"),
    ],
)
def test_what_is_no_table_of_labels(tmp_path, content, message):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        read_table(tmp_path / "t.csv", ["a"])
    assert len(str(error.value)) < 1000


def test_absolute_paths(tmp_path):
    folder = write_files(tmp_path / "hospital", "images/a.png", "images/b.png")
    (tmp_path / "link").symlink_to(folder)
    paths = [f"{tmp_path}/link/images/a.png", f"{folder}/images/b.png", "/elsewhere/c.png"]
    listing = list_table(tmp_path / "link", "image,label\n" + "".join(f"{path},x\n" for path in paths))
    assert listing.images["path"].tolist() == ["images/a.png", "images/b.png"]
    assert listing.refused.to_numpy().tolist() == [
        ["/elsewhere/c.png", "outside_source", "its path in the table is not below the source's folder"]
    ]


@pytest.mark.parametrize(
    ("cell", "labels"),
    [
        ("\"['effusion', 'mass']\"", "effusion|mass"),
        ("['effusion' 'mass']", "effusion|mass"),
        ('"[""effusion"", ""it\'s""]"', "effusion|it's"),
        ('"[effusion, mass]"', "effusion|mass"),
        ("[effusion]", "effusion"),
        ("[]", None),
    ],
)
def test_labels_written_as_a_list(tmp_path, cell, labels):
    images = list_table(tmp_path, f"image,label\na.png,{cell}\n", "a.png").images
    assert texts(images["labels"]) == [labels]


def test_parquet_files_with_an_index_nulls_or_damaged_text(tmp_path):
    pd.DataFrame({"file": ["a"], 7: ["x"]}).rename(columns=str).set_index("file").to_parquet(tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet", ["file", "7"]).to_dict("list") == {"file": ["a"], "7": ["x"]}
    pd.DataFrame({"image": [None, None], "labels": ["x", "y"]}).to_parquet(tmp_path / "t.parquet")
    assert read(tmp_path, table="t.parquet", columns=Columns(image="image", labels="labels")).n_missing == 2
    pd.DataFrame({"image": ["image-1", "image-2"]}).to_parquet(tmp_path / "t.parquet", compression=None)
    content = (tmp_path / "t.parquet").read_bytes()
    (tmp_path / "t.parquet").write_bytes(content.replace(b"image-2", b"\xff\xfe\xfdge-2"))
    with pytest.raises(UserError, match=r"cannot be read: .* Expected a table"):
        read_table(tmp_path / "t.parquet", ["image"])


def test_tables_that_expand_too_much_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(table_files, "_MAX_EXPANDED_BYTES", 2000)
    monkeypatch.setattr(table_files, "_MAX_ROWS", 10)
    files = [tmp_path / "gzip.csv", tmp_path / "rows.parquet", tmp_path / "cells.parquet"]
    files[0].write_bytes(gzip.compress(b"image,label\n" + b"0" * 2**20))
    pq.write_table(pa.table({"image": ["0"] * 11, "label": ["0"] * 11}), files[1])
    pq.write_table(pa.table({"image": ["0" * 2**20], "label": ["0"]}), files[2], compression="zstd")
    for file, reason in zip(files, ("expands to more", "has 11 rows", "expands to more"), strict=True):
        with pytest.raises(UserError, match=reason):
            read_table(file, ["image", "label"])
