"""Tests of reading label tables, as CSV, CSV.gz and Parquet, and of labels of one image in several rows."""

from functools import partial

import pandas as pd
import pytest
from samples import list_table, texts

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.sources.label_tables import Columns, combine_readings, read_label_table, read_labels, years
from cxr_pipeline.data.sources.labels import LabelMap
from cxr_pipeline.data.sources.table_files import read_table

ONE_COLUMN = Columns(
    image="image", labels="findings", patient_id="patient", view="view", age="age", sex="sex", split="part"
)
ONE_HOT = Columns(image="image", one_hot=("Mass", "Edema"))
TABLE = pd.DataFrame(
    [
        ["a.png", "Mass | Effusion|Mass", "007", "pa", "58", "female", "Train", "x"],
        [" b.png ", "Normal", "NA", " AP", "006M", "M", "VALID", "y"],
        ["c.png", None, None, None, "414", "O", None, "z"],
    ],
    columns=["image", "findings", "patient", "view", "age", "sex", "part", "unused"],
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
    assert (texts(rows["labels"]), texts(rows["unknown"])) == (["Mass", "Edema"], ["Edema", None])


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
    rows = one_hot(blank, Mass=["1", "1", None, "x"], Edema=["0", value, value, value])
    assert texts(rows["reason"]) == [None, *["unknown_label"] * 3]
    assert rows["detail"].iloc[1] == f"the column Edema has '{value}'; expected 1, 0, -1 or an empty cell"
    assert "the column Mass has 'x'" in rows["detail"].iloc[3]


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
@pytest.mark.parametrize("how", ["any", "majority", "unanimous"])
def test_a_table_without_rows_or_labels(tmp_path, write, how):
    one_column = Columns(image="image", labels="findings", combine=how)
    one_hot = Columns(image="image", one_hot=("findings", "view"), combine=how)
    file = write(tmp_path, TABLE.head(0)).name
    assert all(read_label_table(tmp_path, file, columns)[0].empty for columns in (ONE_COLUMN, one_column, one_hot))
    rows, _ = read_label_table(tmp_path, write(tmp_path, TABLE.assign(findings=None)).name, one_column)
    assert rows[["labels", "uncertain", "unknown", "outvoted"]].isna().all(axis=None)


def test_an_unknown_split(tmp_path):
    write(tmp_path, TABLE.assign(part=["train", "fold 3", "test"]))
    with pytest.raises(UserError, match=r"labels\.csv: the column part has 'fold 3'; expected one of train"):
        read_label_table(tmp_path, "labels.csv", ONE_COLUMN)


def test_years():
    ages = pd.Series(["58", "058Y", "006m", "14 D", "2W", "61.5", "120", "121", "old", None], dtype="str")
    expected = [58, 58, 0.5, 14 / 365.25, 14 / 365.25, 61.5, 120, -1, -1, -1]
    assert years(ages).fillna(-1).tolist() == pytest.approx(expected)


VINDR = """image_id,class_name,rad_id
a,No finding,R1
a,No finding,R2
a,Mass,R3
b,Mass,R1
b,Mass,R1
b,Edema,R1
b,Mass,R2
b,No finding,R3
c,Mass,R1
c,No finding,R2
d,Mass,R1
d,Mass,R2
"""
NOTHING, MASS, DOUBTFUL = ("No finding", None), ("Mass", None), ("", "Mass|No finding")


def labels_of(folder, table, **columns):
    """Return the labels and uncertain labels of each image."""
    listing = list_table(folder, table, "a.png", "b.png", "c.png", "d.png", columns=columns)
    assert listing.refused.empty
    images = listing.images
    assert listing.n_rows == len(images) + listing.n_repeated == table.count("\n") - 1
    both = zip(texts(images["labels"]), texts(images["uncertain"]), strict=True)
    return dict(zip(images["path"].str[0], both, strict=True))


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("majority", {"a": NOTHING, "b": MASS, "c": DOUBTFUL, "d": MASS}),
        ("any", {"a": MASS, "b": ("Edema|Mass", None), "c": MASS, "d": MASS}),
        ("unanimous", {"a": DOUBTFUL, "b": ("", "Edema|Mass|No finding"), "c": DOUBTFUL, "d": MASS}),
    ],
)
def test_several_readers(tmp_path, how, expected):
    columns = {"image": "image_id", "labels": "class_name", "reader": "rad_id", "combine": how}
    assert labels_of(tmp_path, VINDR, **columns) == expected


@pytest.mark.parametrize(
    ("cells", "labels", "uncertain", "unknown"),
    [
        (["1", "1", "0"], "Mass", None, None),
        (["1", "0", "0"], "", None, None),
        (["1", "-1"], "Mass", None, None),
        (["-1", "0", "0"], "", None, None),
        (["-1", "-1"], "", "Mass", None),
        (["1", ""], "Mass", None, None),
        (["0", ""], "", None, None),
        (["", ""], "", None, "Mass"),
    ],
)
def test_votes_of_readers_by_column(tmp_path, cells, labels, uncertain, unknown):
    table = "image,Mass,Edema\n" + "".join(f"a,{cell},0\n" for cell in cells)
    columns = {"labels": None, "one_hot": ("Mass", "Edema"), "combine": "majority"}
    (row,) = list_table(tmp_path, table, "a.png", columns=columns).images.itertuples()
    assert texts([row.labels, row.uncertain, row.unknown]) == [labels, uncertain, unknown]


@pytest.mark.parametrize("how", ["any", "majority", "unanimous"])
def test_one_row_for_each_image_is_unchanged(how):
    rows = pd.DataFrame(
        {
            "image": ["a", "b", "c", "d", "e", None],
            "labels": ["Edema|Mass", "", None, "Mass", "No Finding", "Mass"],
            "uncertain": [None, "Mass", None, "Edema", None, None],
            "unknown": [None, None, "Edema|Mass", None, None, None],
        },
        dtype="str",
    )
    combined = combine_readings(rows, None, how)
    pd.testing.assert_frame_equal(combined.iloc[:5][list(rows)], rows.iloc[:5])
    assert combined["outvoted"].isna().all()


@pytest.mark.parametrize("how", ["majority", "unanimous"])
def test_spellings_of_a_label_are_one_label(tmp_path, how):
    table = "image,label\na,Pleural Thickening\na,pleural_thickening\na,No Finding\nb,mass\nb,Mass\nc,MASS\nd,Mass\n"
    thickening = ("Pleural Thickening", None) if how == "majority" else ("", "No Finding|Pleural Thickening")
    expected = {"a": thickening, "b": ("mass", None), "c": ("MASS", None), "d": MASS}
    assert labels_of(tmp_path, table, combine=how) == expected


@pytest.mark.parametrize("exclusive", [True, False])
def test_labels_without_a_majority_are_not_negative(tmp_path, exclusive):
    found = {
        "a": ["effusion", "Pleural Effusion", "No Finding"],
        "b": ["Effusion", "Efusion", "No Finding"],
        "c": ["Mass", "Mass", "Mass;Efusion"],
        "d": ["Mass;Effusion", "Mass;Pleural Effusion", "No Finding"],
        "e": ["Mass", "Mass", "Effusion"],
    }
    table = "image,label\n" + "".join(f"{image},{labels}\n" for image, rows in found.items() for labels in rows)
    columns = {"separator": ";", "combine": "majority"}
    listing = list_table(tmp_path, table, *(f"{image}.png" for image in found), columns=columns)
    label_map = LabelMap({"effusion": ["Effusion", "Pleural Effusion"], "mass": ["Mass"]}, exclusive=exclusive)
    outcome = label_map.apply(listing.images, listing.vocabulary)
    misspelt = "belongs to no class of the task: Efusion"
    assert texts(outcome["detail"]) == ["its readers found different labels", misspelt, misspelt, None, None]
    assert outcome.loc[3:, "label_mass"].tolist() == [1.0, 1.0]
    assert outcome["label_effusion"].isna().tolist() == [True, True, True, not exclusive, False]


@pytest.mark.parametrize("normal", ["No Finding", "NEGATIVE", "ohne Befund", "No acute disease", "0_normal"])
def test_an_image_with_a_finding_of_any_reader_is_not_normal(tmp_path, normal):
    table = f"image,label\na,{normal}\na,Mass\nb,{normal}\nb,{normal}\nc,Mass\nd,Mass|{normal}\n"
    assert labels_of(tmp_path, table, combine="any") == {"a": MASS, "b": (normal, None), "c": MASS, "d": MASS}


@pytest.mark.parametrize(
    ("found", "how", "expected"),
    [
        (["No acute disease", "0_normal", "Mass"], "majority", 1.0),
        (["No acute disease", "0_normal"], "unanimous", 1.0),
        (["No acute disease", "0_normal", "Mass"], "any", 0.0),
        (["No acute disease", "No lesion", "Mass"], "majority", "belongs to no class of the task: No lesion"),
        (["No acute disease|Mass", "0_normal", "Mass"], "majority", "no finding and a finding: Mass, No acute disease"),
    ],
)
def test_labels_for_a_normal_image_count_as_one(tmp_path, found, how, expected):
    table = "image,label\n" + "".join(f"a,{label}\n" for label in found)
    listing = list_table(tmp_path, table, "a.png", columns={"combine": how})
    label_map = LabelMap({"ill": ["Mass"], "normal": ["No acute disease", "0_normal"]})
    outcome = label_map.apply(listing.images, listing.vocabulary).iloc[0]
    assert expected in (outcome["label_normal"], outcome["detail"])


def test_rows_that_disagree_are_refused_unless_they_are_combined(tmp_path):
    refused = list_table(tmp_path, "image,label\na,Mass\na,Edema\n", "a.png").refused
    assert refused["reason"].tolist() == ["contradicting_labels"] * 2
    with pytest.raises(ValueError, match="expected combine to be any, majority or unanimous"):
        Columns(image="image", labels="finding", reader="r")
