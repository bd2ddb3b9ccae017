import hashlib
from pathlib import Path

import pandas as pd
import pytest

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.sources.pseudonyms import VARIABLE
from cxr_pipeline.deployment.lineage import PATIENT, content_of, images_of_patient, with_patients

KEY = "a key that nobody can guess"
PATIENTS = ["1", "1", "00000002", "p3", None]
MANIFEST = pd.DataFrame(
    {
        "source": ["nih", "nih", "nih", "images", "images"],
        "image": [f"{number}.png" for number in range(5)],
        "sha256": list("abcde"),
        "patient_id": pd.Series(PATIENTS, dtype="str"),
        "label_ill": [1.0, 0.0, 1.0, 0.0, 1.0],
    }
)
USED = pd.DataFrame(
    {
        "sha256": list("abcdef"),
        "split": ["train", "train", "test", "validation", "train", "refused"],
        "label_ill": [1.0, 0.0, 1.0, 0.0, 1.0, None],
    }
)


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv(VARIABLE, KEY)


@pytest.fixture
def images(tmp_path):
    return with_patients(USED, MANIFEST, tmp_path / "key")


def splits_of(images, *ids):
    return images_of_patient(images, ids, Path("no file"))["split"].value_counts().to_dict()


def test_patients_are_hashed_together_with_their_source(images, tmp_path):
    pd.testing.assert_frame_equal(images[list(USED.columns)], USED)
    assert images["source"].fillna("-").tolist() == ["nih", "nih", "nih", "images", "images", "-"]
    assert images[PATIENT].isna().tolist() == [False] * 4 + [True, True]
    assert images[PATIENT][0] == images[PATIENT][1] != images[PATIENT][2]
    assert images[PATIENT].dropna().str.fullmatch("[0-9a-f]{16}").all()
    same_id = with_patients(USED, MANIFEST.assign(patient_id="1"), tmp_path / "key")
    assert same_id[PATIENT].nunique() == 2
    assert splits_of(same_id, "1") == {"train": 3, "validation": 1, "test": 1}


@pytest.mark.parametrize(
    ("ids", "splits"),
    [
        (["1"], {"train": 2}),
        (["p3"], {"validation": 1}),
        (["somebody", "p3"], {"validation": 1}),
        (["00000001"], {"train": 2}),
        (["2"], {"test": 1}),
        (["0002"], {"test": 1}),
        *(([stranger], {}) for stranger in ("3", "p1", "", "0", "nih\x1f1")),
    ],
)
def test_a_patient_is_found_by_any_id_and_any_number_of_leading_zeros(images, ids, splits):
    assert splits_of(images, *ids) == splits


def test_an_exact_id_is_preferred_to_other_leading_zeros(tmp_path):
    ids = pd.Series(["7", "007", "x", "y", "z"], dtype="str")
    images = with_patients(USED, MANIFEST.assign(patient_id=ids, source="nih"), tmp_path / "key")
    assert images_of_patient(images, ["007"], tmp_path / "key")["sha256"].tolist() == ["b"]


def test_an_image_is_identified_by_its_content(tmp_path):
    file = tmp_path / "image.png"
    file.write_bytes(b"image")
    digest = hashlib.sha256(b"image").hexdigest()
    assert content_of(str(file)) == content_of(digest.upper()) == digest
    with pytest.raises(UserError, match=r"Cannot read an image at .*nowhere"):
        content_of(str(tmp_path / "nowhere"))
