"""Tests of reading label tables, as CSV, CSV.gz and Parquet."""

from functools import partial

import pandas as pd
import pytest
from samples import texts

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.sources.label_tables import Columns, read_label_table, read_labels, years
from cxr_pipeline.data.sources.table_files import read_table

ONE_COLUMN = Columns(
    image="image", labels="findings", patient_id="patient", view="view", age="age", sex="sex", split="part"
)
ONE_HOT = Columns(image="image", one_hot=("Mass", "Edema"))
TABLE = pd.DataFrame(
    {
        "image": ["a.png", " b.png ", "c.png"],
        "findings": ["Mass | Effusion|Mass", "Normal", None],
        "patient": ["007", "NA", None],
        "view": ["pa", " AP", None],
        "age": ["58", "006M", "414"],
        "sex": ["female", "M", "O"],
        "part": ["Train", "VALID", None],
        "unused": ["x", "y", "z"],
    }
)


def write(folder, table, suffix="csv", **options):
    file = folder / f"labels.{suffix}"
    table.to_parquet(file) if suffix == "parquet" else table.to_csv(file, index=False, **options)
    return file


def write_with_bom(folder, table):
    return write(folder, table.rename(columns="{} ".format), encoding="utf-8-sig")


FORMATS = [write, write_with_bom, partial(write, suffix="csv.gz"), partial(write, suffix="parquet")]
every_format = pytest.mark.parametrize("write", FORMATS, ids=["csv", "csv with byte order mark", "gzip", "parquet"])


def one_hot(blank, **columns):
    table = pd.DataFrame({"image": [f"{i}.png" for i in range(len(columns["Mass"]))], **columns}, dtype="str")
    return read_labels(table, Columns(image="image", one_hot=tuple(columns), blank=blank))[0]


@every_format
def test_one_column_of_labels(tmp_path, write):
    file = write(tmp_path, TABLE)
    rows, vocabulary = read_label_table(tmp_path, file.name, ONE_COLUMN)
    columns = ["image", "labels", "patient_id", "view", "age", "sex", "given_split"]
    assert texts(rows.loc[0, columns]) == ["a.png", "Effusion|Mass", "007", "PA", 58, "F", "train"]
    assert texts(rows.loc[1, columns]) == ["b.png", "Normal", "NA", "AP", 0.5, "M", "validation"]
    assert texts(rows.loc[2, columns]) == ["c.png", *[None] * 6]
    assert rows[["uncertain", "unknown", "reason", "detail"]].isna().all(axis=None)
    assert vocabulary == {"Effusion", "Mass", "Normal"}
    assert list(read_table(file, ["image"], optional=["view", "height"])) == ["image", "view"]


@every_format
@pytest.mark.parametrize("values", [["1", "0", "-1"], [1, 0, -1], [1.0, 0.0, -1.0], ["Yes", "no", "-1.0"]])
def test_one_column_per_label(tmp_path, write, values):
    table = pd.DataFrame({"image": [1, 2, 3], "Mass": values, "Edema": values[::-1]})
    rows, vocabulary = read_label_table(tmp_path, write(tmp_path, table).name, ONE_HOT)
    assert texts(rows["image"]) == ["1", "2", "3"]
    assert texts(rows["labels"]) == ["Mass", "", "Edema"]
    assert texts(rows["uncertain"]) == ["Edema", None, "Mass"]
    assert rows[["unknown", "reason"]].isna().all(axis=None)
    assert vocabulary == {"Mass", "Edema"}


def test_booleans_of_parquet(tmp_path):
    table = pd.DataFrame({"image": ["a", "b"], "Mass": [True, False], "Edema": pd.array([None, True], "boolean")})
    rows, _ = read_label_table(tmp_path, write(tmp_path, table, "parquet").name, ONE_HOT)
    assert texts(rows["labels"]) == ["Mass", "Edema"]
    assert texts(rows["unknown"]) == ["Edema", None]


def test_meaning_of_blank_cells():
    cells = {"Mass": [None, "1", None, None], "Edema": ["0", None, "-1", None]}
    unknown = one_hot("unknown", **cells)
    assert texts(unknown["labels"]) == ["", "Mass", "", None]
    assert texts(unknown["unknown"]) == ["Mass", "Edema", "Mass", "Mass|Edema"]
    negative = one_hot("negative", **cells)
    assert texts(negative["labels"]) == ["", "Mass", "", ""]
    assert texts(negative["uncertain"]) == [None, None, "Edema", None]
    assert negative["unknown"].isna().all()


@pytest.mark.parametrize("value", ["2", "maybe", "nan"])
@pytest.mark.parametrize("blank", ["negative", "unknown"])
def test_an_invalid_cell_refuses_its_row(value, blank):
    rows = one_hot(blank, Mass=["1", "1", None], Edema=["0", value, value])
    assert texts(rows["reason"]) == [None, "unknown_label", "unknown_label"]
    assert rows["detail"].iloc[1] == f"the column Edema has '{value}'; expected 1, 0, -1 or an empty cell"


def test_separator(tmp_path):
    table = pd.DataFrame({"image": ["a", "b", "c"], "findings": ["Mass; Edema ;", " ; ", "a, b"]})
    columns = Columns(image="image", labels="findings", separator=";")
    rows, vocabulary = read_label_table(tmp_path, write(tmp_path, table).name, columns)
    assert texts(rows["labels"]) == ["Edema|Mass", None, "a, b"]
    assert vocabulary == {"Edema", "Mass", "a, b"}


@pytest.mark.parametrize("column", ["finding", "zzz"])
def test_a_missing_column(tmp_path, column):
    hint = r"; did you mean findings\?" if column == "finding" else r"\."
    with pytest.raises(UserError, match=rf"labels\.csv has no column {column}{hint} Found image, findings, patient"):
        read_label_table(tmp_path, write(tmp_path, TABLE).name, Columns(image="image", labels=column))


@pytest.mark.parametrize("name", ["labels.csv", "labels.csv.gz", "labels.parquet"])
@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00bad", b'"image\n', b"\x1f\x8b\x08\x00broken", None])
def test_a_damaged_or_missing_table(tmp_path, name, content):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=name):
        read_label_table(tmp_path, name, ONE_COLUMN)


@every_format
def test_a_table_with_only_a_header(tmp_path, write):
    file = write(tmp_path, TABLE.head(0))
    assert len(read_label_table(tmp_path, file.name, ONE_COLUMN)[0]) == 0
    assert len(read_label_table(tmp_path, file.name, Columns(image="image", one_hot=("findings", "view")))[0]) == 0


def test_an_unknown_split(tmp_path):
    file = write(tmp_path, TABLE.assign(part=["train", "fold 3", "test"]))
    with pytest.raises(UserError, match=r"labels\.csv: the column part has 'fold 3'; expected one of train"):
        read_label_table(tmp_path, file.name, ONE_COLUMN)


def test_years():
    ages = pd.Series(["58", "058Y", "006m", "14 D", "2W", "61.5", "120", "121", "old", None], dtype="str")
    expected = [58, 58, 0.5, 14 / 365.25, 14 / 365.25, 61.5, 120, -1, -1, -1]
    assert years(ages).fillna(-1).tolist() == pytest.approx(expected)
