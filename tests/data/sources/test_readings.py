"""Tests of labels of one image in several rows of a table."""

import pandas as pd
import pytest
from samples import texts, write_files

from cxr_pipeline.data.sources.label_table import read
from cxr_pipeline.data.sources.label_tables import Columns, combine_readings
from cxr_pipeline.data.sources.labels import LabelMap

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
    (folder / "t.csv").write_text(table)
    write_files(folder, "a.png", "b.png", "c.png", "d.png")
    listing = read(folder, table="t.csv", columns=Columns(**columns))
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


def test_a_row_for_each_finding(tmp_path):
    table = "image,finding\na,Mass\na,Edema\nb,No Finding\nb,Mass\nc,No Finding\nd,\n"
    table = table.replace("d,\n", "d,Mass\nd,\n")
    expected = {"a": ("Edema|Mass", None), "b": MASS, "c": ("No Finding", None), "d": MASS}
    assert labels_of(tmp_path, table, image="image", labels="finding", combine="any") == expected


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
    (tmp_path / "t.csv").write_text("image,Mass,Edema\n" + "".join(f"a,{cell},0\n" for cell in cells))
    columns = Columns(image="image", one_hot=("Mass", "Edema"), combine="majority")
    (row,) = read(write_files(tmp_path, "a.png"), table="t.csv", columns=columns).images.itertuples()
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
    combined = combine_readings(rows, pd.Series(None, rows.index, dtype="str"), how)
    pd.testing.assert_frame_equal(combined.iloc[:5][list(rows)], rows.iloc[:5])
    assert combined["outvoted"].isna().all()


@pytest.mark.parametrize("how", ["majority", "unanimous"])
def test_spellings_of_a_label_are_one_label(tmp_path, how):
    table = "image,finding\na,Pleural Thickening\na,pleural_thickening\na,No Finding\nb,mass\nb,Mass\nc,MASS\nd,Mass\n"
    thickening = ("Pleural Thickening", None) if how == "majority" else ("", "No Finding|Pleural Thickening")
    expected = {"a": thickening, "b": ("mass", None), "c": ("MASS", None), "d": MASS}
    assert labels_of(tmp_path, table, image="image", labels="finding", combine=how) == expected


@pytest.mark.parametrize("exclusive", [True, False])
def test_labels_without_a_majority_are_not_negative(tmp_path, exclusive):
    readings = {
        "a": ["effusion", "Pleural Effusion", "No Finding"],
        "b": ["Effusion", "Efusion", "No Finding"],
        "c": ["Mass", "Mass", "Mass;Efusion"],
        "d": ["Mass;Effusion", "Mass;Pleural Effusion", "No Finding"],
        "e": ["Mass", "Mass", "Effusion"],
    }
    table = "image,finding\n" + "".join(f"{image},{found}\n" for image, all_of in readings.items() for found in all_of)
    (tmp_path / "t.csv").write_text(table)
    columns = Columns(image="image", labels="finding", separator=";", combine="majority")
    listing = read(write_files(tmp_path, *(f"{image}.png" for image in readings)), table="t.csv", columns=columns)
    labels = LabelMap({"effusion": ["Effusion", "Pleural Effusion"], "mass": ["Mass"]}, exclusive=exclusive)
    outcome = labels.apply(listing.images, listing.vocabulary)
    misspelt = "belongs to no class of the task: Efusion"
    assert texts(outcome["detail"]) == ["its readers found different labels", misspelt, misspelt, None, None]
    assert outcome.loc[3:, "label_mass"].tolist() == [1.0, 1.0]
    assert outcome["label_effusion"].isna().tolist() == [True, True, True, not exclusive, False]


@pytest.mark.parametrize(
    "normal", ["No Finding", "no findings", "NEGATIVE", "ohne Befund", "No acute disease", "0_normal"]
)
def test_an_image_with_a_finding_of_any_reader_is_not_normal(tmp_path, normal):
    table = f"image,finding\na,{normal}\na,Mass\nb,{normal}\nb,{normal}\nc,Mass\nd,Mass|{normal}\n"
    expected = {"a": MASS, "b": (normal, None), "c": MASS, "d": MASS}
    assert labels_of(tmp_path, table, image="image", labels="finding", combine="any") == expected


def test_rows_that_disagree_are_refused_unless_they_are_combined(tmp_path):
    (tmp_path / "t.csv").write_text("image,finding\na,Mass\na,Edema\n")
    write_files(tmp_path, "a.png")
    refused = read(tmp_path, table="t.csv", columns=Columns(image="image", labels="finding")).refused
    assert refused["reason"].tolist() == ["contradicting_labels"] * 2
    with pytest.raises(ValueError, match="expected combine to be any, majority or unanimous"):
        Columns(image="image", labels="finding", reader="r")
