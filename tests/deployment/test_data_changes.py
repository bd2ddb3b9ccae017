import hashlib
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.splits import COLUMNS, assign_splits, select_split
from cxr_pipeline.deployment.data_changes import (
    DataChanges,
    check_unseen,
    extend_registry,
    find_data_changes,
    find_moved,
    images_to_check,
    images_used,
    should_train,
    too_many_relabelled,
    too_much_drift,
)

SHARES = {"train": 0.5, "validation": 0.25, "test": 0.25, "ignore_given_split": False}
EMPTY_REGISTRY = pd.DataFrame(columns=list(COLUMNS), dtype="str")


def content(name):
    return hashlib.sha256(name.encode()).hexdigest()


def manifest(patients, *, ill=3):
    """A manifest with a number of images for each patient; every ``ill``-th patient is ill."""
    names = [f"{patient}_{number}" for patient, n_images in patients.items() for number in range(n_images)]
    patient = pd.Series(names, dtype="str").str.partition("_")[0]
    is_ill = patient.str[1:].astype(int) % ill == 0
    table = pd.DataFrame({"source": "images", "image": names, "sha256": map(content, names), "patient_id": patient})
    table["label_ill"], table["label_well"] = is_ill.astype(float), (~is_ill).astype(float)
    return table.assign(image=table["image"] + ".png", given_split=pd.Series([None] * len(names), dtype="str"))


def assign(images, registry=EMPTY_REGISTRY):
    return assign_splits(images, registry, seed=1, **SHARES)


NO_REFUSED_IMAGES = pd.DataFrame(columns=["sha256", "reason", "detail"], dtype="str")
IMAGES = manifest({f"p{number}": 2 for number in range(12)})
SPLITS = assign(IMAGES)
USED = images_used(IMAGES, SPLITS, NO_REFUSED_IMAGES)
UNCHANGED = {"new": 0, "relabelled": 0, "reassigned": 0, "gone": 0, "known": 24}


def changes(**counts):
    return DataChanges(**{**UNCHANGED, **counts})


def test_used_images_are_listed_by_content_with_refused_and_without_missing_ones():
    refused = pd.DataFrame({"sha256": [content("bad")], "reason": ["truncated"], "detail": [""]})
    later = IMAGES.iloc[4:].reset_index(drop=True)
    used = images_used(later, SPLITS, refused)
    assert list(used.columns) == ["sha256", "split", "label_ill", "label_well"]
    assert used["sha256"].is_monotonic_increasing
    contents = used.groupby("split")["sha256"].agg(set).to_dict()
    expected = {split: set(select_split(later, SPLITS, split)["sha256"]) for split in ("train", "validation", "test")}
    assert contents == {**expected, "refused": {content("bad")}}
    assert used.loc[used["split"] == "refused", "label_ill"].isna().all()


def test_labels_that_differ_are_a_change():
    today = IMAGES.copy()
    today.loc[[0, 7], "label_ill"] = 1 - today.loc[[0, 7], "label_ill"]
    assert find_data_changes(today, USED) == changes(relabelled=2)
    other_classes = IMAGES.rename(columns={"label_well": "label_nodule"})
    assert find_data_changes(other_classes, USED) == changes(relabelled=24)
    unknown = IMAGES.assign(label_ill=np.where(IMAGES.index < 4, np.nan, IMAGES["label_ill"]))
    used = images_used(unknown, SPLITS, NO_REFUSED_IMAGES)
    assert find_data_changes(unknown, used) == changes()
    assert find_data_changes(IMAGES, used) == find_data_changes(unknown, USED) == changes(relabelled=4)


def test_an_image_that_was_refused_before_is_no_change():
    refused = IMAGES.iloc[[0]][["sha256"]].assign(reason="truncated", detail="")
    used = images_used(IMAGES.iloc[1:].reset_index(drop=True), SPLITS, refused)
    assert find_data_changes(IMAGES, used) == changes(known=23)


def test_corrected_patients_are_a_change():
    images = IMAGES.assign(patient=IMAGES["patient_id"])
    used = USED.merge(images[["sha256", "source", "patient"]], on="sha256")
    assert find_data_changes(images, used) == changes()
    corrected = images.copy()
    corrected.loc[0, "patient"], corrected.loc[1, "patient"] = "p7", None
    assert find_data_changes(corrected, used) == changes(reassigned=2)
    assert find_data_changes(images, used.assign(patient=None)) == changes(reassigned=24)
    assert find_data_changes(images.assign(source="other", patient="x"), used) == changes()
    assert find_data_changes(IMAGES, used) == find_data_changes(corrected, USED) == changes()


@given(st.sets(st.integers(0, 23)), st.sets(st.integers(0, 23)))
def test_images_are_compared_as_sets(now, then):
    renamed = IMAGES.assign(image="x" + IMAGES["image"], source="other").iloc[::-1].reset_index(drop=True)
    then_sha256 = renamed.iloc[sorted(then)]["sha256"]
    found = find_data_changes(renamed.iloc[sorted(now)], USED[USED["sha256"].isin(then_sha256)])
    assert found == changes(new=len(now - then), gone=len(then - now), known=len(now & then))
    assert bool(found) == (now != then)


def test_images_are_checked_until_the_reference_has_them():
    images = pd.DataFrame({"sha256": list("12345"), "label_ill": [1.0, 0.0, None, 1.0, 0.0]})
    reference = pd.DataFrame({"sha256": list("1235"), "label_ill": [1.0, 1.0, None, 1.0]})
    reference["split"] = ["train", "train", "train", "refused"]
    champion = pd.DataFrame({"sha256": list("19")})
    assert images_to_check(images, reference, champion)["sha256"].tolist() == ["2", "4"]
    assert images_to_check(images, reference, reference)["sha256"].tolist() == ["4"]
    other_classes = reference.rename(columns={"label_ill": "label_well"})
    assert images_to_check(images, other_classes, champion)["sha256"].tolist() == ["2", "3", "4"]


def test_too_many_relabelled_images_stop_a_retraining():
    def why_stopped(max_fraction, **counts):
        return too_many_relabelled(changes(**counts), max_fraction=max_fraction, task="chest")

    assert why_stopped(0.05, relabelled=5, known=100) is None
    assert why_stopped(0, known=0) is None
    why = why_stopped(0.05, relabelled=6, known=100)
    assert why.startswith("6 of 100 images have new labels")
    allowed = re.search(r"--params chest\.retraining\.max_relabelled_fraction=([\d.]+)", why)
    assert why_stopped(float(allowed[1]), relabelled=6, known=100) is None


@pytest.mark.parametrize("champion", [2, 3, 5])
def test_too_much_drift_stops_a_retraining(champion):
    drift = {"verdict": "refuse", "sentence": "Drift in pixels (noise).", "n_new": 1234, "model": {"version": 3}}
    for verdict in ("none", "warn", "unknown"):
        assert too_much_drift({**drift, "verdict": verdict}, model="m", champion=champion, task="chest") is None
    why = too_much_drift(drift, model="m", champion=champion, task="chest")
    for part in ("1,234", "those of m 3.", "Drift in pixels (noise).", "--params chest.retraining.on_drift=warn"):
        assert part in why
    # A champion newer than the reference was trained on images that drifted.
    assert ("--pipeline=chest_rollback" in why) == (champion > 3)


@pytest.mark.parametrize(
    ("champion", "found", "decided", "force", "train", "why"),
    [
        (None, None, None, False, True, "m has no champion; there are 7 images to train on."),
        (None, None, (4, "not promoted"), False, False, "m 4 was trained on these 7 images and was not promoted."),
        (None, None, (4, "not promoted"), True, True, "was not promoted. Training was forced."),
        (3, changes(), None, False, False, "the 7 images are those of the champion, m 3."),
        (3, changes(), None, True, True, "those of the champion, m 3. Training was forced."),
        (3, changes(), (3, "promoted"), True, False, "the 7 images are those of the champion, m 3."),
        (3, changes(new=1), None, False, True, "Since the champion, m 3: 1 new images"),
        (3, changes(gone=1), None, False, True, "0 with other patients, 1 missing."),
        (3, changes(new=1), (4, "rolled back"), False, False, "trained on these 7 images and was rolled back."),
    ],
)
def test_whether_to_train(champion, found, decided, force, train, why):
    decision, reason = should_train("m", champion, found, decided, n_images=7, force=force)
    assert decision == train
    assert why in reason


def test_rows_that_another_run_added_to_the_registry_stay():
    other = assign(manifest({"p40": 2, "p41": 1, "p42": 1}), SPLITS)
    extended = extend_registry(other, SPLITS, task="chest")
    assert set(extended["image"]) == set(other["image"])
    assert find_moved(extended, other).empty
    assert find_moved(other, extended).empty


@pytest.mark.parametrize(
    "change", [{}, {"image": "new.png", "sha256": content("new")}, {"image": "copy.png", "patient_id": "p99"}]
)
def test_a_patient_or_content_that_would_move_raises(change):
    row = SPLITS.iloc[[0]].assign(**change)
    assert find_moved(SPLITS, row).empty
    moved = row.assign(split="test" if row["split"].iloc[0] == "train" else "train")
    with pytest.raises(UserError, match=r"chest\.splits .*1 patients would change split \(images/p"):
        extend_registry(SPLITS, moved, task="chest")


@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_version_that_was_trained_on_a_test_image_or_patient_is_not_compared(split):
    test = select_split(IMAGES, SPLITS, "test")
    check_unseen(test, USED, SPLITS, version="m 1")
    check_unseen(test.assign(patient_id=None), USED, SPLITS.assign(patient_id=None), version="m 1")
    used = USED.assign(split=USED["split"].mask(USED["sha256"] == test["sha256"].iloc[0], split))
    with pytest.raises(UserError, match=f"m 1 cannot be compared .* 2 of {len(test)}"):
        check_unseen(test, used, SPLITS, version="m 1")
    patient = SPLITS.loc[SPLITS["split"] == split, "patient_id"].iloc[0]
    new = test.iloc[[0]].assign(patient_id=patient, sha256=content("new"), image="new.png")
    with pytest.raises(UserError, match="trained on 1 of 1"):
        check_unseen(new, USED, SPLITS, version="m 1")
