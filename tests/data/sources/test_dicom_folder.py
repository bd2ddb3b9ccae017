import os
import shutil

import pandas as pd
import pytest
from samples import list_table, refusal, texts
from samples.dicom_folder import write_dicom

from cxr_pipeline.data.sources import dicom_folder
from cxr_pipeline.data.sources.dicom_folder import reader
from cxr_pipeline.data.sources.pseudonyms import hide_patients
from cxr_pipeline.framework import config


def read_names(folder, *names, **options):
    table = "image,label\n" + "".join(f"{name},Mass\n" for name in names)
    return list_table(folder, table, layout=dicom_folder, **options)


def refusals(listing):
    return dict(zip(listing.refused["image"], listing.refused["reason"], strict=True))


@pytest.mark.parametrize(
    ("name", "path"),
    [("1.2.840.7", "a/b/1.2.840.7"), ("1.2.3.9", "a/b/1.2.840.7"), ("a/x", "a/x.dcm"), ("1.2.3.5", "image.dcm")],
)
def test_names_of_an_image(tmp_path, name, path):
    for number, file in {9: "a/b/1.2.840.7", 8: "a/x.dcm", 4: "1.2.3.5.dcm", 5: "image.dcm"}.items():
        write_dicom(tmp_path / file, number)
    images = read_names(tmp_path, name).images
    assert images[["image", "path", "labels"]].to_numpy().tolist() == [[path, path, "Mass"]]


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        ({"PatientAge": "006M", "PatientSex": "f", "ViewPosition": "ll"}, [0.5, "F", "LL"]),
        ({"PatientAge": "62", "PatientSex": "O", "ViewPosition": ""}, [62, None, None]),
        ({"PatientAge": "Jane", "PatientSex": "Doe"}, [None, None, "PA"]),
    ],
)
def test_age_sex_and_view_are_from_the_table_or_the_header(elements, expected, tmp_path):
    for number in (1, 2):
        write_dicom(tmp_path / f"{number}.dcm", number, **elements)
    columns = {"age": "age", "sex": "sex", "view": "view"}
    table = "image,label,age,sex,view\n1.dcm,Mass,70,F,AP\n2.dcm,Mass,,,\n"
    images = list_table(tmp_path, table, layout=dicom_folder, columns=columns).images
    assert images.loc[0, ["age", "sex", "view"]].tolist() == [70, "F", "AP"]
    assert texts(images.loc[1, ["age", "sex", "view"]]) == expected


def test_patients_of_the_header_and_of_the_table_have_the_same_pseudonyms(tmp_path):
    for number in (2, 3, 4):
        write_dicom(tmp_path / f"{number}.dcm", number)
    write_dicom(tmp_path / "5.dcm", 5, PatientID="")
    table = "image,label,id\n2.dcm,Mass,\n3.dcm,Mass,MRN2\n4.dcm,Mass,\n5.dcm,Mass,\n"
    patients, from_table = (
        hide_patients(listing, tmp_path / "patient.key").images["patient_id"]
        for columns in ({}, {"patient_id": "id"})
        for listing in [list_table(tmp_path, table, layout=dicom_folder, columns=columns)]
    )
    assert patients[0] == patients[1] != patients[2]
    assert pd.isna(patients[3])
    assert patients[:3].str.fullmatch("[0-9a-f]{16}").all()
    assert from_table.tolist()[:3] == [patients[0], patients[2], patients[2]]
    # The source of a task lists the pseudonyms.
    columns = {"image": "image", "labels": "label"}
    source = {"layout": "dicom_folder", "path": str(tmp_path), "table": "labels.csv", "columns": columns}
    folders = config.Folders(**{name: tmp_path / name for name in config.Folders.model_fields})
    listing = config.Sources({"pacs": source}).root["pacs"].list_images(folders)
    assert listing.images["patient_id"].dropna().str.fullmatch("[0-9a-f]{16}").all()


def test_no_identifier_is_in_the_listing(tmp_path, recwarn):
    write_dicom(tmp_path / "1.dcm", 1)
    (tmp_path / "1.dcm").write_bytes((tmp_path / "1.dcm").read_bytes().replace(b"ISO_IR 192", b"Doe^Jane\\6"))
    write_dicom(tmp_path / "2.dcm", 2, BodyPartExamined="LEG OF Doe^Jane")
    write_dicom(tmp_path / "3.dcm", 3)
    (tmp_path / "3.dcm").write_bytes((tmp_path / "3.dcm").read_bytes()[:400])
    recwarn.clear()
    listing = hide_patients(read_names(tmp_path, "1.2.3.1", "1.2.3.2", "3.dcm"), tmp_path / "patient.key")
    text = listing.images.to_csv() + listing.refused.to_csv() + " ".join(listing.notes)
    assert not recwarn.list
    assert not [identifier for identifier in ("Doe", "MRN", "1.2.3.") if identifier in text]
    assert refusals(listing) == {"2.dcm": "not_chest", "3.dcm": "unreadable"}


def test_unusable_images_are_refused(tmp_path):
    source = tmp_path / "source"
    write_dicom(source / "ct.dcm", 1, Modality="CT")
    write_dicom(source / "rgb.dcm", 2, PhotometricInterpretation="RGB")
    (source / "text.dcm").write_text("no image")
    (source / "empty.dcm").touch()
    os.mkfifo(source / "pipe.dcm")
    for folder, name in ((tmp_path, "outside.dcm"), (source, "inside.dcm")):
        write_dicom(folder / name, 3)
        (source / f"link to {name}").symlink_to(folder / name)
    reasons = {
        **dict.fromkeys(["ct.dcm", "rgb.dcm"], "not_chest"),
        **dict.fromkeys(["text.dcm", "empty.dcm", "pipe.dcm"], "unreadable"),
        "link to outside.dcm": "outside_source",
    }
    listing = read_names(source, *reasons, "link to inside.dcm")
    assert refusals(listing) == reasons
    assert listing.images["path"].tolist() == ["link to inside.dcm"]
    assert refusal(reader(source), "link to outside.dcm").reason == "outside_source"


def test_accepted_modalities_and_body_parts(tmp_path):
    write_dicom(tmp_path / "1.dcm", 1, Modality="RF", BodyPartExamined="HEART")
    assert len(read_names(tmp_path, "1.dcm", modalities=("RF",)).refused) == 1
    accepted = {"modalities": ("RF",), "body_parts": ("heart",)}
    assert len(read_names(tmp_path, "1.dcm", **accepted).images) == 1
    assert reader(tmp_path, **accepted).read("1.dcm")
    assert refusal(reader(tmp_path), "1.dcm").detail.startswith("modality RF")
    # No pixels are read for a listing.
    content = (tmp_path / "1.dcm").read_bytes()
    (tmp_path / "1.dcm").write_bytes(content[: content.index(b"\xe0\x7f\x10\x00") + 12])
    assert len(read_names(tmp_path, "1.dcm", **accepted).images) == 1


def test_real_images(tmp_path, shared_data):
    shutil.copytree(shared_data / "dicom", tmp_path / "images")
    listing = read_names(tmp_path / "images", *sorted(path.name for path in (tmp_path / "images").iterdir()))
    assert {name.partition("_")[0]: reason for name, reason in refusals(listing).items()} == {"not": "not_chest"}
    assert listing.images["sex"].tolist() == ["M"] * 4
    assert listing.images["age"].tolist() == [62, 81, 58, 77]
