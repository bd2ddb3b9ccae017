import importlib
from pathlib import Path

import pandas as pd
import pytest
from samples import draw_image, write_files

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.sources import LAYOUTS
from cxr_pipeline.data.sources.label_tables import Columns
from cxr_pipeline.data.sources.proposals import propose_source, sides_of, size_for
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


def test_bacteria_and_virus_of_kermany_are_one_patient(tmp_path):
    write_files(tmp_path, "PNEUMONIA/person1_bacteria_1.jpeg", "PNEUMONIA/person1_virus_2.jpeg")
    write_files(tmp_path, "NORMAL/IM-0115-0001.jpeg", "NORMAL/NORMAL2-IM-0115-0001.jpeg")
    proposal = propose_source(tmp_path)
    assert proposal.listing.images["patient_id"].tolist() == ["IM-0115", "NORMAL2-IM-0115", "person1", "person1"]
    assert (
        "3 patients with at most 2 images (IM-0115-0001.jpeg -> IM-0115, person1_virus_2.jpeg -> person1)"
        in (proposal.notes[0])
    )


def test_a_folder_one_level_too_high_is_doubted(tmp_path):
    write_files(tmp_path, "ward/1.png", "ward/labels.csv", "xrays/clear/1.png", "xrays/water/2.png")
    *notes, _ = propose_source(tmp_path).notes
    assert notes == [
        f"xrays/ has the subfolders clear, water. If those are the classes: --folder {tmp_path / 'xrays'}",
        f"ward/labels.csv may be a label table. If it is: --table {tmp_path / 'ward' / 'labels.csv'}",
    ]
    (tmp_path / "ward" / "1.png").unlink()
    with pytest.raises(UserError, match=r"has images in one folder only\. xrays/ has the subfolders clear, water\."):
        propose_source(tmp_path)


def test_folders_of_patients_are_not_doubted(tmp_path):
    write_files(tmp_path, *(f"{name}/p{number}/1.png" for name in ("ill", "well") for number in range(16)))
    assert len(propose_source(tmp_path).notes) == 1


@pytest.mark.parametrize(
    "name", ["pat_nr", "patient_nr", "MRN", "pid", "case", "Patientennummer", "Patienten-ID", "Pat.-Nr.", "PatientID"]
)
def test_columns_of_patients_are_recognised(name, tmp_path):
    write_files(tmp_path, "1.png", "2.png")
    (tmp_path / "t.csv").write_text(f"file;label;{name}\n1.png;Mass;7\n2.png;normal;8\n")
    proposal = propose_source(tmp_path)
    assert proposal.source["columns"] == {"image": "file", "labels": "label", "patient_id": name}
    assert proposal.notes == ("the labels are those of the column label.",)


def test_a_column_that_may_have_the_patients_is_asked_for(tmp_path):
    write_files(tmp_path, *(f"{number}.png" for number in range(6)))
    rows = "".join(f"{number}.png,{number % 2},key{number // 2},{number % 2}\n" for number in range(6))
    (tmp_path / "t.csv").write_text(f"file,label,key,case\n{rows}")
    note = "If it is key (3 values in 6 rows), add to columns: {patient_id: key}"
    assert propose_source(tmp_path).notes[-1] == f"no column of patients was recognised. {note}"


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
        ({"t.csv": "a,b\nx,y\n", "1.png": ""}, "", r"none of its columns \(a, b\) names the .* such as 1\.png\."),
        ({"t.csv": "a,label\n1.jpg,x\n", "1.PNG": ""}, "t.csv", r"t\.csv: a has 1\.jpg, the folder has 1\.PNG\."),
        ({"t.csv": "a,label\nC:\\x\\1.png,x\n", "1.png": ""}, "", r"a has C:\\x\\1\.png, the folder has 1\.png\."),
        ({"t.csv": "a,b\n", "1.png": ""}, "", r"t\.csv: it has no rows\."),
        ({"t.csv": "a,b\n1,2\n"}, "t.csv", r"t\.csv: there are no images\. Give their folder"),
        ({"t.csv": "a,b\n1.png,z\n", "1.png": ""}, "t.csv", "no column of labels was recognised among a, b"),
        ({"t.csv": "", "1.png": ""}, "t.csv", r"t\.csv cannot be read"),
    ],
)
def test_what_is_missing_is_named(files, place, message, tmp_path):
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message):
        propose_source(tmp_path / place)


def test_small_images_are_prepared_at_a_smaller_size(tmp_path):
    for number in range(3):
        draw_image(tmp_path / f"{number}.png", number)
    (tmp_path / "3.png").write_bytes(b"damaged")
    sides = sides_of(pd.Series([f"{number}.png" for number in range(4)]), file_reader(tmp_path))
    assert sides == [32, 32, 32]
    assert [size_for(sides), size_for([150, 160, 170]), size_for([224]), size_for([])] == [112, 160, None, None]
