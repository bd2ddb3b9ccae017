import numpy as np
import pandas as pd
import pytest
from manifests import images

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.leakage import check_splits


def clean():
    """Return six patients with two images each, of both classes, two patients in each split."""
    patients = [number // 2 for number in range(12)]
    manifest = images([str(patient) for patient in patients], [patient % 2 for patient in patients])
    splits = manifest[["source", "image", "sha256", "patient_id"]].assign(
        split=["train"] * 4 + ["validation"] * 4 + ["test"] * 4
    )
    return manifest, splits


def test_a_patient_in_two_splits():
    manifest, splits = clean()
    splits.loc[0, "split"] = "test"
    with pytest.raises(UserError, match=r"1 patient is in several: images/0\. Assign .*<task>\.splitting\.renew"):
        check_splits(manifest, splits, exclusive=True)
    manifest["given_split"] = splits["split"]
    with pytest.raises(UserError, match=r"--params effusion\.splitting\.ignore_given_split=true"):
        check_splits(manifest, splits, exclusive=True, task="effusion")


def test_images_that_are_no_longer_in_the_manifest_count():
    manifest, splits = clean()
    removed = splits.head(1).assign(image="removed.png", sha256="f" * 64, split="test")
    with pytest.raises(UserError, match="1 patient is in several: images/0"):
        check_splits(manifest, pd.concat([splits, removed], ignore_index=True), exclusive=True)


def test_unknown_patients_and_equal_numbers_in_two_sources_do_not_leak():
    manifest, splits = clean()
    check_splits(manifest, splits, exclusive=True)
    for table in (manifest, splits):
        table.loc[4:5, ["source", "patient_id"]] = ["other", "0"]
    check_splits(manifest, splits, exclusive=True)
    manifest["patient_id"] = splits["patient_id"] = pd.Series([None] * 12, dtype="str")
    check_splits(manifest, splits, exclusive=True)


def test_the_same_image_in_two_splits():
    manifest, splits = clean()
    splits.loc[11, "sha256"] = splits.loc[0, "sha256"]
    with pytest.raises(UserError, match=r"images: 0\.png in train, images: 11\.png in test"):
        check_splits(manifest, splits, exclusive=True)


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        (range(10), r"of 10 images there are well: train 2, .*; ill: train 2, validation 2, test 0\. .*Add images\.$"),
        ([0, 4, 10], r"of 3 images there are .* at least 3 patients of each class"),
    ],
)
def test_a_split_without_images_of_a_class(kept, message):
    manifest, splits = (table.iloc[list(kept)].reset_index(drop=True) for table in clean())
    with pytest.raises(UserError, match=message):
        check_splits(manifest, splits, exclusive=True)


def test_an_image_without_a_split():
    manifest, splits = clean()
    with pytest.raises(ValueError, match="one row in splits"):
        check_splits(manifest, splits.iloc[1:], exclusive=True)


@pytest.mark.parametrize("value", [1.0, 0.0, np.nan])
def test_one_of_several_classes_with_both_kinds_in_each_split_is_enough(value):
    manifest, splits = clean()
    manifest = manifest.assign(label_well=[0.0, 1.0] * 6, label_old=np.nan)
    check_splits(manifest.assign(label_ill=value), splits, exclusive=False)
    with pytest.raises(UserError, match="each class needs an image in each split"):
        check_splits(manifest, splits, exclusive=True)
    in_test = splits["split"] == "test"
    manifest.loc[in_test, "label_well"] = manifest.loc[splits["split"] == "train", "label_ill"] = value
    check_splits(manifest, splits, exclusive=False)
    manifest.loc[in_test, "label_ill"] = value
    with pytest.raises(UserError, match=r"a class with both.* of 12 images .*old: train 0, validation 0, test 0"):
        check_splits(manifest, splits, exclusive=False)
