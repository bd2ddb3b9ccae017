"""Tests of the check of splits."""

import numpy as np
import pandas as pd
import pytest

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.leakage import check_splits


def clean() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Six patients with two images each, of both classes, two patients in each split."""
    patients = [str(number // 2) for number in range(12)]
    ill = [number // 2 % 2 for number in range(12)]
    manifest = pd.DataFrame(
        {
            "source": "images",
            "image": [f"{number}.png" for number in range(12)],
            "sha256": [f"{number:064x}" for number in range(12)],
            "patient_id": patients,
            "label_well": [1.0 - value for value in ill],
            "label_ill": [float(value) for value in ill],
            "given_split": pd.Series([None] * 12, dtype="str"),
        }
    )
    splits = manifest[["source", "image", "sha256", "patient_id"]].assign(
        split=["train"] * 4 + ["validation"] * 4 + ["test"] * 4
    )
    return manifest, splits


def test_clean_splits_pass() -> None:
    check_splits(*clean(), exclusive=True)


def test_a_patient_in_two_splits_is_named() -> None:
    manifest, splits = clean()
    splits.loc[0, "split"] = "test"
    with pytest.raises(UserError, match=r"1 patients are in several: images/0\. Delete the earlier splits"):
        check_splits(manifest, splits, exclusive=True, task="effusion")


def test_where_the_source_is_the_cause_the_way_out_is_named() -> None:
    manifest, splits = clean()
    splits.loc[0, "split"] = "test"
    manifest["given_split"] = splits["split"]
    with pytest.raises(UserError, match=r"--params effusion\.splitting\.ignore_given_split=true"):
        check_splits(manifest, splits, exclusive=True, task="effusion")


def test_at_most_fifty_patients_are_named() -> None:
    manifest, splits = clean()
    many = pd.DataFrame(
        {
            "source": "images",
            "image": [f"gone{number}.png" for number in range(140)],
            "sha256": [f"{number:064x}" for number in range(100, 240)],
            "patient_id": [f"p{number // 2:02}" for number in range(140)],
            "split": ["train", "test"] * 70,
        }
    )
    with pytest.raises(UserError, match="70 patients are in several") as error:
        check_splits(manifest, pd.concat([splits, many], ignore_index=True), exclusive=True)
    assert str(error.value).count("images/p") == 50
    assert "and 20 more" in str(error.value)


def test_a_patient_is_also_in_the_splits_of_images_that_are_gone() -> None:
    manifest, splits = clean()
    gone = pd.DataFrame(
        {"source": ["images"], "image": ["gone.png"], "sha256": ["f" * 64], "patient_id": ["0"], "split": ["test"]}
    )
    with pytest.raises(UserError, match="images/0"):
        check_splits(manifest, pd.concat([splits, gone], ignore_index=True), exclusive=True)


def test_images_without_a_patient_are_no_leak() -> None:
    manifest, splits = clean()
    manifest["patient_id"] = splits["patient_id"] = pd.Series([None] * 12, dtype="str")
    check_splits(manifest, splits, exclusive=True)


def test_the_same_number_in_two_sources_is_no_leak() -> None:
    manifest, splits = clean()
    for table in (manifest, splits):
        table.loc[4:5, ["source", "patient_id"]] = ["other", "0"]
    check_splits(manifest, splits, exclusive=True)


def test_the_same_image_in_two_splits_is_named() -> None:
    manifest, splits = clean()
    splits.loc[11, "sha256"] = splits.loc[0, "sha256"]
    with pytest.raises(UserError, match=r"images: 0\.png in train, images: 11\.png in test"):
        check_splits(manifest, splits, exclusive=True)


def test_a_class_that_a_split_lacks_is_named_with_all_counts() -> None:
    manifest, splits = clean()
    keep = [number for number in range(12) if number not in (10, 11)]
    manifest, splits = manifest.iloc[keep], splits.iloc[keep]
    with pytest.raises(UserError) as error:
        check_splits(manifest.reset_index(drop=True), splits.reset_index(drop=True), exclusive=True)
    assert "of 10 images" in str(error.value)
    assert "well: train 2, validation 2, test 2; ill: train 2, validation 2, test 0" in str(error.value)
    assert "ignore_given_split" not in str(error.value)


def test_a_split_without_any_image_is_found() -> None:
    manifest, splits = clean()
    splits["split"] = splits["split"].replace("validation", "train")
    with pytest.raises(UserError, match="validation 0"):
        check_splits(manifest, splits, exclusive=True)


def test_three_images_in_all_get_a_clear_sentence() -> None:
    manifest, splits = clean()
    manifest, splits = manifest.iloc[[0, 4, 10]], splits.iloc[[0, 4, 10]]
    with pytest.raises(UserError, match=r"of 3 images there are .* at least 3 patients of each class"):
        check_splits(manifest.reset_index(drop=True), splits.reset_index(drop=True), exclusive=True)


def test_a_image_without_a_split_is_a_fault_of_the_program() -> None:
    manifest, splits = clean()
    with pytest.raises(ValueError, match="one row in splits"):
        check_splits(manifest, splits.iloc[1:], exclusive=True)


def several() -> tuple[pd.DataFrame, pd.DataFrame]:
    """The clean splits, with any number of classes at once, and one that no image is known to have or to lack."""
    manifest, splits = clean()
    return manifest.assign(label_well=[0.0, 1.0] * 6, label_old=np.nan), splits


def test_of_several_classes_one_with_both_kinds_in_each_split_is_enough() -> None:
    manifest, splits = several()
    check_splits(manifest, splits, exclusive=False)
    check_splits(manifest.assign(label_ill=1.0), splits, exclusive=False)
    with pytest.raises(UserError, match="each class needs an image in each split"):
        check_splits(manifest, splits, exclusive=True)


@pytest.mark.parametrize("value", [1.0, 0.0, np.nan])
def test_of_several_classes_none_with_both_kinds_in_a_split(value: float) -> None:
    manifest, splits = several()
    manifest.loc[splits["split"] == "test", ["label_well", "label_ill"]] = value
    with pytest.raises(UserError, match=r"a class with both.* of 12 images .*old: train 0, validation 0, test 0"):
        check_splits(manifest, splits, exclusive=False)


def test_of_several_classes_a_split_in_which_every_image_has_all_is_none() -> None:
    manifest, splits = several()
    manifest = manifest.drop(columns="label_old").assign(label_ill=1.0)
    manifest.loc[splits["split"] == "test", "label_well"] = 1.0
    with pytest.raises(UserError, match="well: train 2, validation 2, test 4"):
        check_splits(manifest, splits, exclusive=False)


def test_of_several_classes_each_split_may_have_another_with_both_kinds() -> None:
    manifest, splits = several()
    manifest.loc[splits["split"] == "test", "label_well"] = 1.0
    manifest.loc[splits["split"] == "train", "label_ill"] = np.nan
    check_splits(manifest, splits, exclusive=False)
