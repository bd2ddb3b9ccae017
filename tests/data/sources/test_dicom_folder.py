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


def listing(folder: Path, table: str, columns: dict[str, Any] | None = None, **options: Any) -> Listing:
    (folder / "labels.csv").write_text(table)
    return read(folder, table="labels.csv", columns={"image": "image", "labels": "label", **(columns or {})}, **options)


def refusals(found: Listing) -> dict[str, str]:
    return dict(zip(found.refused["image"], found.refused["reason"], strict=True))


@pytest.mark.parametrize("name", ["a/b/1.2.840.7", "1.2.840.7", "1.2.3.9"])
def test_an_image_is_named_by_path_file_name_or_uid(name: str, tmp_path: Path) -> None:
    write_dicom(tmp_path / "a/b/1.2.840.7", 9)
    write_dicom(tmp_path / "a/other.dcm", 8)
    images = listing(tmp_path, f"image,label\n{name},Mass\n").images
    assert images[["image", "path", "labels"]].to_numpy().tolist() == [["a/b/1.2.840.7", "a/b/1.2.840.7", "Mass"]]


@pytest.mark.parametrize("name", ["a/x.dcm", "x.dcm", "a/x", "x", r"a\x.dcm", "./a//x.dcm"])
def test_the_suffix_may_be_left_out(name: str, tmp_path: Path) -> None:
    write_dicom(tmp_path / "a/x.dcm", 1)
    assert listing(tmp_path, f"image,label\n{name},Mass\n").images["path"].tolist() == ["a/x.dcm"]


def test_a_uid_takes_precedence_over_a_name_without_suffix(tmp_path: Path) -> None:
    write_dicom(tmp_path / "1.2.3.5.dcm", 4)
    write_dicom(tmp_path / "image.dcm", 5)
    assert listing(tmp_path, "image,label\n1.2.3.5,Mass\n").images["path"].tolist() == ["image.dcm"]


def test_unnamed_and_missing_images_are_counted(tmp_path: Path) -> None:
    write_dicom(tmp_path / "1.dcm", 1)
    write_dicom(tmp_path / "2.dcm", 2)
    (tmp_path / "IMAGE").write_bytes(bytes(128) + b"DICM")
    (tmp_path / "notes.txt").write_bytes(bytes(128) + b"DICM")
    found = listing(tmp_path, "image,label\n1.dcm,Mass\ngone.dcm,Mass\n")
    assert found.n_missing == 1
    assert found.notes[1] == "DICOM files below the folder that the table does not name: 2."
    assert len(listing(tmp_path, "image,label\n1.dcm,Mass\n2.dcm,Mass\nIMAGE,Mass\n").notes) == 1


def test_the_table_takes_precedence_over_the_header(tmp_path: Path) -> None:
    for number in (1, 2):
        write_dicom(tmp_path / f"{number}.dcm", number)
    columns = {"age": "age", "sex": "sex", "view": "view"}
    images = listing(tmp_path, "image,label,age,sex,view\n1.dcm,Mass,70,F,AP\n2.dcm,Mass,,,\n", columns).images
    assert images[["age", "sex", "view"]].to_numpy().tolist() == [[70, "F", "AP"], [32, "F", "PA"]]


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        ({"PatientAge": "006M", "PatientSex": "f", "ViewPosition": "ll"}, [0.5, "F", "LL"]),
        ({"PatientAge": "62", "PatientSex": "O", "ViewPosition": ""}, [62, None, None]),
        ({"PatientAge": "999Y", "PatientSex": "", "ViewPosition": None}, [None, None, None]),
        ({"PatientAge": "Jane", "PatientSex": "Doe"}, [None, None, "PA"]),
    ],
)
def test_age_sex_and_view_from_headers(elements: dict[str, Any], expected: list[Any], tmp_path: Path) -> None:
    write_dicom(tmp_path / "1.dcm", 1, **elements)
    image = listing(tmp_path, "image,label\n1.dcm,Mass\n").images.iloc[0]
    assert [None if pd.isna(image[name]) else image[name] for name in ("age", "sex", "view")] == expected


def test_patients_are_pseudonyms(tmp_path: Path) -> None:
    for number in (2, 3, 4):
        write_dicom(tmp_path / f"{number}.dcm", number)
    write_dicom(tmp_path / "5.dcm", 5, PatientID="")
    rows = "".join(f"{number}.dcm,Mass,{'MRN2' if number == 3 else ''}\n" for number in (2, 3, 4, 5))
    patients = listing(tmp_path, f"image,label,id\n{rows}").images["patient_id"]
    assert patients[0] == patients[1] != patients[2]
    assert pd.isna(patients[3])
    assert patients[:3].str.fullmatch("[0-9a-f]{16}").all()
    from_table = listing(tmp_path, f"image,label,id\n{rows}", {"patient_id": "id"}).images["patient_id"]
    assert from_table[1] == from_table[2] == patients[2]
    assert from_table[0] == patients[0]


def test_nothing_of_a_patient_leaves_the_reader(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    write_dicom(tmp_path / "1.dcm", 1)
    (tmp_path / "1.dcm").write_bytes((tmp_path / "1.dcm").read_bytes().replace(b"ISO_IR 192", b"Doe^Jane\\6"))
    write_dicom(tmp_path / "2.dcm", 2, BodyPartExamined="LEG OF Doe^Jane")
    write_dicom(tmp_path / "3.dcm", 3)
    (tmp_path / "3.dcm").write_bytes((tmp_path / "3.dcm").read_bytes()[:400])
    found = listing(tmp_path, "image,label\n1.2.3.1,Mass\n1.2.3.2,Mass\n3.dcm,Mass\n")
    said = found.images.to_csv() + found.refused.to_csv() + " ".join(found.notes)
    assert not recwarn.list
    for identifier in ("Doe", "MRN", "1.2.3."):
        assert identifier not in said
    assert refusals(found) == {"2.dcm": "not_chest", "3.dcm": "unreadable"}


def test_without_a_key_one_is_kept_beside_the_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE)
    write_dicom(tmp_path / "1.dcm", 1)
    first = listing(tmp_path, "image,label\n1.dcm,Mass\n").images
    assert (tmp_path / KEY_FILE).exists()
    pd.testing.assert_frame_equal(listing(tmp_path, "image,label\n1.dcm,Mass\n").images, first)


def test_images_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    write_dicom(tmp_path / "ct.dcm", 1, Modality="CT")
    write_dicom(tmp_path / "rgb.dcm", 2, PhotometricInterpretation="RGB")
    (tmp_path / "text.dcm").write_text("no image")
    (tmp_path / "empty.dcm").touch()
    os.mkfifo(tmp_path / "pipe.dcm")
    names = ["ct.dcm", "rgb.dcm", "text.dcm", "empty.dcm", "pipe.dcm"]
    found = listing(tmp_path, "image,label\n" + "".join(f"{name},Mass\n" for name in names))
    assert refusals(found) == dict(zip(names, ["not_chest"] * 2 + ["unreadable"] * 3, strict=True))


def test_accepted_modalities_and_body_parts(tmp_path: Path) -> None:
    write_dicom(tmp_path / "1.dcm", 1, Modality="RF", BodyPartExamined="HEART")
    table = "image,label\n1.dcm,Mass\n"
    assert len(listing(tmp_path, table).refused) == 1
    assert len(listing(tmp_path, table, modalities=("RF",)).refused) == 1
    options: dict[str, Any] = {"modalities": ("RF",), "body_parts": ("heart",)}
    assert len(listing(tmp_path, table, **options).images) == 1
    assert reader(tmp_path, table="labels.csv", **options).read("1.dcm")
    with pytest.raises(ImageRefused, match="modality RF"):
        reader(tmp_path).read("1.dcm")


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    inside = tmp_path / "images"
    write_dicom(tmp_path / "1.dcm", 1)
    inside.mkdir()
    (inside / "link.dcm").symlink_to(tmp_path / "1.dcm")
    write_dicom(inside / "2.dcm", 2)
    (inside / "again.dcm").symlink_to(inside / "2.dcm")
    found = listing(inside, "image,label\nlink.dcm,Mass\nagain.dcm,Mass\n1.2.3.1,Mass\n")
    assert refusals(found) == {"link.dcm": "outside_source"}
    assert found.images["path"].tolist() == ["again.dcm"]
    assert found.n_missing == 1
    with pytest.raises(ImageRefused, match="outside_source"):
        reader(inside).read("link.dcm")


def test_the_folder_may_be_a_link(tmp_path: Path) -> None:
    write_dicom(tmp_path / "images/1.dcm", 1)
    (tmp_path / "link").symlink_to(tmp_path / "images")
    assert len(listing(tmp_path / "link", "image,label\n1.dcm,Mass\n").images) == 1
    assert reader(tmp_path / "link").read("1.dcm")


def test_the_reader_accepts_dicom_only(tmp_path: Path) -> None:
    write_dicom(tmp_path / "1.dcm", 1)
    (tmp_path / "text.dcm").write_text("no image")
    images = reader(tmp_path)
    assert decode(images.read("1.dcm"), max_megapixels=1).shape == (40, 32)
    with pytest.raises(ImageRefused, match="not a DICOM file"):
        images.read("text.dcm")


def test_a_header_is_read_without_its_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_dicom(tmp_path / "1.dcm", 1)
    seen = []

    def look(file: Any, tags: Any) -> Any:
        header = original(file, tags)
        seen.append((file.tell(), [element.keyword for element in header]))
        return header

    original = dicom_folder.read_header
    monkeypatch.setattr(dicom_folder, "read_header", look)
    listing(tmp_path, "image,label\n1.dcm,Mass\n")
    [(at, keywords)] = seen
    assert at < (tmp_path / "1.dcm").stat().st_size - 2 * 40 * 32
    assert {"PixelData", "PatientName"}.isdisjoint(keywords)


def test_real_images(tmp_path: Path, shared_data: Path) -> None:
    shutil.copytree(shared_data / "dicom", tmp_path / "images")
    names = sorted(path.name for path in (tmp_path / "images").iterdir())
    found = listing(tmp_path / "images", "image,label\n" + "".join(f"{name},Mass\n" for name in names))
    assert sorted(refusals(found).values()) == ["not_chest", "not_chest"]
    assert all(name.startswith("not_chest") for name in refusals(found))
    assert found.images["sex"].tolist() == ["M"] * 4
    assert found.images["patient_id"].dropna().str.fullmatch("[0-9a-f]{16}").all()
    assert found.images["age"].tolist() == [62, 81, 58, 77]
    for path in found.images["path"]:
        content = reader(tmp_path / "images").read(path)
        assert decode(content, max_megapixels=2).shape == (1024, 1024)
