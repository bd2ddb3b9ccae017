import importlib.util
import os
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from cxr_pipeline.common.errors import ImageRefused
from cxr_pipeline.data.images.decoding import decode
from cxr_pipeline.data.sources import dicom_folder
from cxr_pipeline.data.sources.dicom_folder import read, reader
from cxr_pipeline.data.sources.label_tables import Columns
from cxr_pipeline.data.sources.listing import Listing
from cxr_pipeline.data.sources.pseudonyms import KEY_FILE, VARIABLE

HERE = Path(__file__).parent


def _load_write_dicom() -> Any:
    spec = importlib.util.spec_from_file_location("dicom_sample", HERE / "samples" / "dicom_folder.py")
    sample = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sample)
    return sample.write_dicom


write_dicom = _load_write_dicom()


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "a key for these tests")


def read_table(folder: Path, table: str, columns: dict[str, Any] | None = None, **options: Any) -> Listing:
    (folder / "labels.csv").write_text(table)
    columns = {"image": "image", "labels": "label", **(columns or {})}
    return read(folder, table="labels.csv", columns=Columns(**columns), **options)


def read_names(folder: Path, *names: str, **options: Any) -> Listing:
    return read_table(folder, "image,label\n" + "".join(f"{name},Mass\n" for name in names), **options)


def refusals(listing: Listing) -> dict[str, str]:
    return dict(zip(listing.refused["image"], listing.refused["reason"], strict=True))


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("a/b/1.2.840.7", "a/b/1.2.840.7"),
        ("1.2.840.7", "a/b/1.2.840.7"),
        ("1.2.3.9", "a/b/1.2.840.7"),
        ("x.dcm", "a/x.dcm"),
        ("a/x", "a/x.dcm"),
        ("x", "a/x.dcm"),
        (r".\a\\x.dcm", "a/x.dcm"),
        ("1.2.3.5", "image.dcm"),
    ],
)
def test_names_of_an_image(tmp_path: Path, name: str, path: str) -> None:
    for number, file in {9: "a/b/1.2.840.7", 8: "a/x.dcm", 4: "1.2.3.5.dcm", 5: "image.dcm"}.items():
        write_dicom(tmp_path / file, number)
    images = read_names(tmp_path, name).images
    assert images[["image", "path", "labels"]].to_numpy().tolist() == [[path, path, "Mass"]]


def test_unnamed_and_missing_images_are_counted(tmp_path: Path) -> None:
    write_dicom(tmp_path / "1.dcm", 1)
    write_dicom(tmp_path / "2.dcm", 2)
    (tmp_path / "IMAGE").write_bytes(bytes(128) + b"DICM")
    (tmp_path / "notes.txt").write_bytes(bytes(128) + b"DICM")
    listing = read_names(tmp_path, "1.dcm", "gone.dcm")
    assert listing.n_missing == 1
    assert listing.notes[1] == "DICOM files below the folder that the table does not name: 2."
    assert len(read_names(tmp_path, "1.dcm", "2.dcm", "IMAGE").notes) == 1


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        ({"PatientAge": "006M", "PatientSex": "f", "ViewPosition": "ll"}, [0.5, "F", "LL"]),
        ({"PatientAge": "62", "PatientSex": "O", "ViewPosition": ""}, [62, None, None]),
        ({"PatientAge": "999Y", "PatientSex": "", "ViewPosition": None}, [None, None, None]),
        ({"PatientAge": "Jane", "PatientSex": "Doe"}, [None, None, "PA"]),
    ],
)
def test_age_sex_and_view_are_from_the_table_or_the_header(
    elements: dict[str, Any], expected: list[Any], tmp_path: Path
) -> None:
    for number in (1, 2):
        write_dicom(tmp_path / f"{number}.dcm", number, **elements)
    columns = {"age": "age", "sex": "sex", "view": "view"}
    images = read_table(tmp_path, "image,label,age,sex,view\n1.dcm,Mass,70,F,AP\n2.dcm,Mass,,,\n", columns).images
    assert images.loc[0, ["age", "sex", "view"]].tolist() == [70, "F", "AP"]
    assert [None if pd.isna(value) else value for value in images.loc[1, ["age", "sex", "view"]]] == expected


def test_patients_are_pseudonyms(tmp_path: Path) -> None:
    for number in (2, 3, 4):
        write_dicom(tmp_path / f"{number}.dcm", number)
    write_dicom(tmp_path / "5.dcm", 5, PatientID="")
    rows = "".join(f"{number}.dcm,Mass,{'MRN2' if number == 3 else ''}\n" for number in (2, 3, 4, 5))
    patients = read_table(tmp_path, f"image,label,id\n{rows}").images["patient_id"]
    assert patients[0] == patients[1] != patients[2]
    assert pd.isna(patients[3])
    assert patients[:3].str.fullmatch("[0-9a-f]{16}").all()
    from_table = read_table(tmp_path, f"image,label,id\n{rows}", {"patient_id": "id"}).images["patient_id"]
    assert from_table.tolist()[:3] == [patients[0], patients[2], patients[2]]


def test_without_a_key_one_is_stored_beside_the_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE)
    write_dicom(tmp_path / "1.dcm", 1)
    first = read_names(tmp_path, "1.dcm").images
    assert (tmp_path / KEY_FILE).exists()
    pd.testing.assert_frame_equal(read_names(tmp_path, "1.dcm").images, first)


def test_no_identifier_is_in_the_listing(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    write_dicom(tmp_path / "1.dcm", 1)
    (tmp_path / "1.dcm").write_bytes((tmp_path / "1.dcm").read_bytes().replace(b"ISO_IR 192", b"Doe^Jane\\6"))
    write_dicom(tmp_path / "2.dcm", 2, BodyPartExamined="LEG OF Doe^Jane")
    write_dicom(tmp_path / "3.dcm", 3)
    (tmp_path / "3.dcm").write_bytes((tmp_path / "3.dcm").read_bytes()[:400])
    listing = read_names(tmp_path, "1.2.3.1", "1.2.3.2", "3.dcm")
    text = listing.images.to_csv() + listing.refused.to_csv() + " ".join(listing.notes)
    assert not recwarn.list
    for identifier in ("Doe", "MRN", "1.2.3."):
        assert identifier not in text
    assert refusals(listing) == {"2.dcm": "not_chest", "3.dcm": "unreadable"}


def test_unusable_images_are_refused(tmp_path: Path) -> None:
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
    for name in ("text.dcm", "link to outside.dcm"):
        with pytest.raises(ImageRefused, match=f"{reasons[name]}: "):
            reader(source).read(name)


def test_accepted_modalities_and_body_parts(tmp_path: Path) -> None:
    write_dicom(tmp_path / "1.dcm", 1, Modality="RF", BodyPartExamined="HEART")
    assert len(read_names(tmp_path, "1.dcm").refused) == 1
    assert len(read_names(tmp_path, "1.dcm", modalities=("RF",)).refused) == 1
    options: dict[str, Any] = {"modalities": ("RF",), "body_parts": ("heart",)}
    assert len(read_names(tmp_path, "1.dcm", **options).images) == 1
    assert reader(tmp_path, table="labels.csv", **options).read("1.dcm")
    with pytest.raises(ImageRefused, match="modality RF"):
        reader(tmp_path).read("1.dcm")


def test_the_folder_may_be_a_link(tmp_path: Path) -> None:
    write_dicom(tmp_path / "images/1.dcm", 1)
    (tmp_path / "link").symlink_to(tmp_path / "images")
    assert len(read_names(tmp_path / "link", "1.dcm").images) == 1
    assert decode(reader(tmp_path / "link").read("1.dcm"), max_megapixels=1).shape == (40, 32)


def test_a_header_is_read_without_its_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_dicom(tmp_path / "1.dcm", 1)
    headers = []

    def look(file: Any, tags: Any) -> Any:
        header = original(file, tags)
        headers.append((file.tell(), [element.keyword for element in header]))
        return header

    original = dicom_folder.read_header
    monkeypatch.setattr(dicom_folder, "read_header", look)
    read_names(tmp_path, "1.dcm")
    [(position, keywords)] = headers
    assert position < (tmp_path / "1.dcm").stat().st_size - 2 * 40 * 32
    assert {"PixelData", "PatientName"}.isdisjoint(keywords)


def test_real_images(tmp_path: Path, shared_data: Path) -> None:
    shutil.copytree(shared_data / "dicom", tmp_path / "images")
    listing = read_names(tmp_path / "images", *sorted(path.name for path in (tmp_path / "images").iterdir()))
    assert sorted(refusals(listing).values()) == ["not_chest", "not_chest"]
    assert all(name.startswith("not_chest") for name in refusals(listing))
    assert listing.images["sex"].tolist() == ["M"] * 4
    assert listing.images["patient_id"].dropna().str.fullmatch("[0-9a-f]{16}").all()
    assert listing.images["age"].tolist() == [62, 81, 58, 77]
    for path in listing.images["path"]:
        assert decode(reader(tmp_path / "images").read(path), max_megapixels=2).shape == (1024, 1024)
