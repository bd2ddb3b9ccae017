"""Which images and patients a version has seen."""

import hashlib
from pathlib import Path

import pandas as pd
import pytest

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.sources.pseudonyms import VARIABLE
from cxr_pipeline.deployment.data_changes import check_unseen, find_news
from cxr_pipeline.deployment.lineage import content_of, count_by_split, count_patients, images_of_patient, with_patients

KEY = "a key that nobody can guess"
PATIENTS = ["1", "1", "00000002", "p3", None]
MANIFEST = pd.DataFrame(
    {
        "source": ["nih", "nih", "nih", "images", "images"],
        "image": [f"{place}.png" for place in range(5)],
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
def a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, KEY)


@pytest.fixture
def images(tmp_path: Path) -> pd.DataFrame:
    return with_patients(USED, MANIFEST, tmp_path / "key")


def seen(images: pd.DataFrame, *ids: str) -> dict[str, int]:
    return count_by_split(images_of_patient(images, ids, Path("no file")))


def test_images_come_with_their_patients_under_a_keyed_hash(images) -> None:
    pd.testing.assert_frame_equal(images[list(USED.columns)], USED)
    assert images["source"].fillna("-").tolist() == ["nih", "nih", "nih", "images", "images", "-"]
    assert images["patient"].isna().tolist() == [False] * 4 + [True, True]
    assert images["patient"][0] == images["patient"][1] != images["patient"][2]
    assert images["patient"].dropna().str.fullmatch("[0-9a-f]{16}").all()
    assert count_patients(images) == 3


def test_the_same_id_of_two_sources_is_two_patients(tmp_path) -> None:
    both = with_patients(USED, MANIFEST.assign(patient_id="1"), tmp_path / "key")
    assert both["patient"].nunique() == 2
    assert seen(both, "1") == {"train": 3, "validation": 1, "test": 1}


def test_a_patient_is_found_in_the_splits_of_its_images(images) -> None:
    assert seen(images, "1") == {"train": 2}
    assert seen(images, "p3") == {"validation": 1}
    assert seen(images, "somebody", "p3") == {"validation": 1}


@pytest.mark.parametrize(("asked", "found"), [("00000001", {"train": 2}), ("2", {"test": 1}), ("0002", {"test": 1})])
def test_leading_zeros_do_not_hide_a_patient(images, asked, found) -> None:
    assert seen(images, asked) == found


def test_a_patient_whose_zeros_are_right_is_not_taken_for_another(tmp_path) -> None:
    ids = pd.Series(["7", "007", "x", "y", "z"], dtype="str")
    images = with_patients(USED, MANIFEST.assign(patient_id=ids, source="nih"), tmp_path / "key")
    assert images_of_patient(images, ["007"], tmp_path / "key")["sha256"].tolist() == ["b"]


@pytest.mark.parametrize("stranger", ["3", "p1", "", "0", "nih\x1f1"])
def test_a_stranger_is_not_found(images, stranger) -> None:
    assert seen(images, stranger) == {}


def test_another_key_finds_nobody(images, monkeypatch) -> None:
    monkeypatch.setenv(VARIABLE, KEY + "!")
    assert seen(images, "1") == {}


def test_images_without_any_patient_belong_to_nobody(tmp_path) -> None:
    nobody = MANIFEST.assign(patient_id=pd.Series([None] * 5, dtype="str"))
    images = with_patients(USED, nobody, tmp_path / "key")
    assert count_patients(images) == 0
    assert seen(images, "1") == {}


def test_whose_images_old_versions_have_is_not_on_record() -> None:
    assert count_patients(USED) is None


def test_a_retraining_reads_both_kinds_of_list(images) -> None:
    today = MANIFEST.assign(label_ill=1.0)
    assert find_news(today, images) == find_news(today, USED)
    assert find_news(today, images).relabelled == 2
    ledger = MANIFEST.assign(split=USED["split"])
    check_unseen(MANIFEST.iloc[2:3], images, ledger, version="m 1")
    with pytest.raises(UserError, match="it learned from 1 of 1"):
        check_unseen(MANIFEST.iloc[:1], images, ledger, version="m 1")


def test_a_image_is_its_content(tmp_path) -> None:
    file = tmp_path / "image.png"
    file.write_bytes(b"image")
    digest = hashlib.sha256(b"image").hexdigest()
    assert content_of(str(file)) == content_of(digest.upper()) == digest
    with pytest.raises(UserError, match=r"no image can be read at .*nowhere.*64 hexadecimal digits"):
        content_of(str(tmp_path / "nowhere"))


def test_splits_are_counted_in_their_order(images) -> None:
    assert list(count_by_split(images).items()) == [("train", 3), ("validation", 1), ("test", 1), ("refused", 1)]
