import importlib
import re
from pathlib import Path

import pandas as pd
import pytest
from samples import draw_image, write_files

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.sources import LAYOUTS
from cxr_pipeline.data.sources.label_tables import Columns
from cxr_pipeline.data.sources.labels import LabelMap
from cxr_pipeline.data.sources.proposals import propose_classes, propose_source, sides_of, size_for
from cxr_pipeline.data.sources.readers import file_reader


@pytest.mark.parametrize("layout", sorted(LAYOUTS.keys() - {"phantoms"}))
def test_the_layout_of_each_sample_is_found(layout, tmp_path):
    path, given = importlib.import_module(f"samples.{layout}").write(tmp_path / "images")
    place = path / given["table"] if "table" in given else path
    source = dict(propose_source(Path(place), folder=Path(path) if "table" in given else None).source)
    assert source.pop("layout") == layout
    columns = {"columns": Columns(**source.pop("columns"))} if "columns" in source else {}
    listing = LAYOUTS[layout].read(Path(source.pop("path")), **source, **columns)
    assert len(listing.images) >= 4
    assert listing.images["labels"].nunique() >= 2


@pytest.mark.parametrize(
    ("names", "pattern", "n_patients"),
    [
        (
            [f"p{number // 2}_{number}" for number in range(11)],
            r"^([A-Za-z]*\d+)[_-]",
            6,
        ),
        (["a-b_1", "a-b_2", "c-d_1", "e-f_1", "g-h_1", "i-j_1"], r"^(.+)[_-]\d+\.", 5),
        (["1", "2", "3", "4", "5", "6"], "none", 0),
        # All images of one patient: a number of the collection rather than of a patient.
        ([f"x1_{number}" for number in range(12)], "none", 0),
    ],
)
def test_patients_are_looked_for_in_file_names(names, pattern, n_patients, tmp_path):
    write_files(tmp_path, *(f"{'ab'[number % 2]}/{name}.png" for number, name in enumerate(names)))
    proposal = propose_source(tmp_path)
    assert proposal.source["patient_id"] == pattern
    assert proposal.listing.images["patient_id"].nunique() == n_patients
    assert len(proposal.notes) == 1


TABLES = {
    "one column": (
        "File Name;Diagnosis;Subject-ID;note\nx/1.png;Mass,Edema;7;a\n2;normal;8;b\n",
        {"image": "File Name", "labels": "Diagnosis", "patient_id": "Subject-ID", "separator": ","},
        "not used: note",
    ),
    "a column for each label": (
        "path,Mass,Edema,age\n./x/1.png,1,0,40\n2.png,,1,50\n",
        {"image": "path", "one_hot": ["Mass", "Edema"], "age": "age"},
        "set blank: negative",
    ),
}


@pytest.mark.parametrize("name", TABLES)
def test_columns_of_a_table_are_recognised(name, tmp_path):
    content, columns, note = TABLES[name]
    images = write_files(tmp_path / "images", "x/1.png", "2.png")
    (tmp_path / "table.csv").write_text(content)
    proposal = propose_source(tmp_path / "table.csv", folder=images)
    assert proposal.source["columns"] == columns
    assert Path(proposal.source["table"]).is_absolute()
    assert len(proposal.listing.images) == 2
    assert note in " ".join(proposal.notes)


@pytest.mark.parametrize(
    ("files", "place", "message"),
    [
        ({}, "absent", "There is no folder or file"),
        ({"1.png": "", "2.png": ""}, "", "has 2 images, and no labels. Expected images in a folder for each class"),
        ({"t.csv": "a,b\nx,y\n", "1.png": ""}, "", r"none of its columns \(a, b\) names the images"),
        ({"t.csv": "a,b\n1.png,z\n", "1.png": ""}, "t.csv", "no column of labels was recognised among a, b"),
        ({"t.csv": "", "1.png": ""}, "t.csv", r"t\.csv cannot be read"),
    ],
)
def test_what_is_missing_is_named(files, place, message, tmp_path):
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message):
        propose_source(tmp_path / place)


@pytest.mark.parametrize(
    ("labels", "kind", "classes"),
    [
        (["1", "0", "1"], "binary", {"class_0": ["0"], "class_1": ["1"]}),
        (["Mass", "Edema", "Edema", "No Finding"], "multiclass", ["No Finding", "Edema", "Mass"]),
        (["Mass|Edema", "Normal", "Edema"], "multilabel", ["Edema", "Mass"]),
        (["Mass", "", ""], "multilabel", ["Mass"]),
        (
            ["Normal", "normal", "normal", "Mass", "MASS"],
            "binary",
            {"normal": ["normal", "Normal"], "Mass": ["Mass", "MASS"]},
        ),
        (["Mass|mass", "normal"], "binary", {"normal": ["normal"], "Mass": ["Mass", "mass"]}),
        (["sick", "well"], "binary", ["well", "sick"]),
        (["Befund", "Gesund"], "binary", ["Gesund", "Befund"]),
        (["a+b", "a-b", "é"], "multiclass", {"a_b": ["a+b"], "a-b": ["a-b"], "class_": ["é"]}),
    ],
)
def test_classes_follow_from_the_labels(labels, kind, classes):
    found = propose_classes(pd.Series(labels))
    assert found[:2] == (kind, classes if isinstance(classes, dict) else {name: [name] for name in classes})
    LabelMap(found[1], exclusive=kind != "multilabel")


@pytest.mark.parametrize(
    ("labels", "note"),
    [
        (["normal", "Effusion"] * 20, None),
        (["well", "sick"], None),
        (["unauffällig", "Befund"], None),
        (["bacterial", "viral"], "no class was recognised as the normal one. The last, viral, is the positive one."),
        (["Mass", "Mass", ""], "Mass is the only label: 2 of 3 images have it."),
        (
            [*(["normal", "effusion"] * 20), "efusion"],
            r"is efusion \(images: 1\) another spelling of effusion\? Then move",
        ),
        (["normal", "No Finding", "No Finding", "Mass"], r"is normal \(images: 1\) another spelling of No Finding\?"),
    ],
)
def test_doubts_about_the_classes_are_named(labels, note):
    notes = propose_classes(pd.Series(labels))[2]
    assert [bool(re.match(note or "", text)) for text in notes] == [True] * (note is not None)


def test_images_without_a_finding_are_no_task():
    with pytest.raises(UserError, match="No image has a finding"):
        propose_classes(pd.Series(["normal", None]))


def test_small_images_are_prepared_at_a_smaller_size(tmp_path):
    for number in range(3):
        draw_image(tmp_path / f"{number}.png", number)
    (tmp_path / "3.png").write_bytes(b"damaged")
    sides = sides_of(pd.Series([f"{number}.png" for number in range(4)]), file_reader(tmp_path))
    assert sides == [32, 32, 32]
    assert [size_for(sides), size_for([150, 160, 170]), size_for([224]), size_for([])] == [112, 160, None, None]
