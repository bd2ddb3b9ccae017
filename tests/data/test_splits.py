"""Tests of assigning splits: properties of any manifest, and cases with a known result."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from manifests import images

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.leakage import check_splits
from cxr_pipeline.data.manifest import list_images
from cxr_pipeline.data.sources import LAYOUTS
from cxr_pipeline.data.sources.labels import LabelMap
from cxr_pipeline.data.sources.readers import FileReader
from cxr_pipeline.data.splits import COLUMNS, SPLITS, assign_splits, count_sources, count_splits, member_splits

EMPTY = pd.DataFrame(columns=list(COLUMNS), dtype="str")


def assign(manifest, registry=EMPTY, *, seed=0, ignore=False):
    shares = {"train": 0.7, "validation": 0.15, "test": 0.15}
    return assign_splits(manifest, registry, **shares, seed=seed, ignore_given_split=ignore)


def patients(n):
    return [str(number) for number in range(n)]


def assert_patients_have_one_split(splits):
    assert set(splits.dropna(subset="patient_id").groupby("patient_id")["split"].nunique()) <= {1}


def by_image(splits):
    return dict(zip(splits["image"], splits["split"], strict=True))


manifests = st.lists(
    st.tuples(st.one_of(st.none(), st.integers(0, 15).map(str)), st.integers(0, 1)), min_size=1, max_size=60
).map(lambda rows: images([patient for patient, _ in rows], [ill for _, ill in rows]))


@settings(max_examples=12, deadline=None)
@given(manifest=manifests, seed=st.integers(0, 5), data=st.data())
def test_every_image_has_a_split_and_every_patient_only_one_in_any_order_of_rows(manifest, seed, data):
    splits = assign(manifest, seed=seed)
    assert list(splits.columns) == list(COLUMNS)
    assert splits["image"].tolist() == manifest["image"].tolist()
    assert splits["split"].isin(SPLITS).all()
    assert_patients_have_one_split(splits)
    shuffled = manifest.iloc[data.draw(st.permutations(range(len(manifest))))].reset_index(drop=True)
    assert by_image(assign(shuffled, seed=seed)) == by_image(splits)


@settings(max_examples=12, deadline=None)
@given(manifest=manifests, n=st.integers(1, 60), folds=st.integers(2, 6), data=st.data())
def test_a_patient_stays_in_its_fold_and_every_image_outside_the_test_set_is_validated_once(manifest, n, folds, data):
    early = assign(manifest.head(n))
    splits = assign(manifest, early, seed=data.draw(st.integers(0, 5)))
    assert splits["fold_order"].head(n).tolist() == early["fold_order"].head(n).tolist()
    assert splits.groupby(splits["patient_id"].fillna(splits["sha256"]))["fold_order"].nunique().eq(1).all()
    development = splits["split"] != "test"
    if splits["fold_order"][development].mod(folds).nunique() < folds:
        with pytest.raises(UserError, match=f"training.folds is {folds}, but the patients outside the test set fill"):
            member_splits(splits, folds)
        return
    members = member_splits(splits, folds)
    validated = sum((member["split"] == "validation").astype(int) for member in members)
    assert (validated == development).all()
    for member in members:
        assert_patients_have_one_split(member)
        assert ((member["split"] == "test") == ~development).all()
    assert member_splits(splits, 1) == [splits]


@settings(max_examples=12, deadline=None)
@given(n_ill=st.integers(0, 30), n_well=st.integers(0, 30), more=st.integers(0, 40), folds=st.integers(2, 6))
def test_each_class_is_spread_evenly_over_the_folds_as_data_grows(n_ill, n_well, more, folds):
    ill = [1] * n_ill + [0] * n_well + [1] * more
    manifest = images(patients(len(ill)), ill) if ill else images(["0"], [1])
    early = assign(manifest.head(max(1, n_ill + n_well)))
    splits = assign(manifest, early)
    for added, rows in splits.groupby(splits.index >= len(early)):
        chosen = rows[rows["split"] != "test"].join(manifest["label_ill"])
        for _, of_class in chosen.groupby("label_ill"):
            counts = (of_class["fold_order"] % folds).value_counts().reindex(range(folds), fill_value=0)
            assert counts.max() - counts.min() <= 1, added


def test_a_split_registry_without_folds_gets_them():
    manifest = images(patients(40))
    former = assign(manifest)
    renewed = assign(manifest.iloc[1:].reset_index(drop=True), former.drop(columns="fold_order"))
    assert by_image(renewed) == by_image(former)
    assert sorted(renewed["fold_order"]) == list(range(40))
    returned = assign(manifest, renewed)
    assert sorted(returned["fold_order"]) == list(range(40))


@settings(max_examples=12, deadline=None)
@given(manifest=manifests, data=st.data(), seed=st.integers(0, 5))
def test_no_patient_ever_moves(manifest, data, seed):
    """Images are added, disappear and return, the seed changes, and every image and patient keeps its split."""
    present = data.draw(st.lists(st.lists(st.booleans(), min_size=60, max_size=60), min_size=2, max_size=4))
    registry, seen = EMPTY, {}
    for number, chosen in enumerate([*present, [True] * 60]):
        registry = assign(manifest[chosen[: len(manifest)]].reset_index(drop=True), registry, seed=seed + number)
        now = by_image(registry)
        assert {image: now[image] for image in seen} == seen
        assert registry["image"].is_unique
        assert_patients_have_one_split(registry)
        seen = now


@settings(max_examples=10, deadline=None)
@given(n_patients=st.integers(40, 300), prevalence=st.floats(0.1, 0.9), seed=st.integers(0, 1000))
def test_shares_are_kept_within_each_class(n_patients, prevalence, seed):
    ill = (np.random.default_rng(seed).random(n_patients) < prevalence).astype(int).tolist()
    manifest = images(patients(n_patients), ill)
    for _, assigned in assign(manifest, seed=seed)["split"].groupby(manifest["label_ill"]):
        counts = assigned.value_counts()
        for split, share in zip(SPLITS, (0.7, 0.15, 0.15), strict=True):
            assert abs(counts.get(split, 0) - share * counts.sum()) <= 1.5


def test_a_patient_with_most_images_is_in_training_and_counts_as_one():
    """60 of 80 images are of one patient, of both classes; the other 20 patients have one image each."""
    manifest = images(["p"] * 60 + patients(20), [0, 1] * 40)
    for seed in range(5):
        splits = assign(manifest, seed=seed)
        assert (splits["split"][:60] == "train").all()
        counts = count_splits(manifest, splits, ["ill"])
        assert counts["train"]["effective_patients"] == round((60 + 14) ** 2 / (60**2 + 14))
        for split in ("validation", "test"):
            assert counts[split]["effective_patients"] == counts[split]["patients"]


@settings(max_examples=10, deadline=None)
@given(sizes=st.lists(st.integers(1, 40), min_size=60, max_size=120), seed=st.integers(0, 1000))
def test_shares_of_patients_and_of_images_are_kept(sizes, seed):
    manifest = images([str(patient) for patient, size in enumerate(sizes) for _ in range(size)], [1] * sum(sizes))
    splits = assign(manifest, seed=seed)
    for split, share in zip(SPLITS, (0.7, 0.15, 0.15), strict=True):
        chosen = splits[splits["split"] == split]
        assert abs(chosen["patient_id"].nunique() - share * len(sizes)) <= 1
        assert abs(len(chosen) - share * sum(sizes)) <= max(sizes)


def test_new_patients_restore_the_shares_in_splits_that_depend_on_the_seed():
    registry = assign(images(patients(20))).assign(split="validation")
    grown = [assign(images(patients(400)), registry, seed=seed)["split"] for seed in (1, 2)]
    for splits in grown:
        assert splits.value_counts().to_dict() == {"train": 280, "validation": 60, "test": 60}
    assert grown[0].tolist() != grown[1].tolist()


@pytest.mark.parametrize("seed", range(5))
def test_patients_of_the_rarer_class_reach_every_split(seed):
    """Of the patients, 3 to 7 have each class; or ten of 200 have both classes, or the only one."""
    for n_patients in (3, 4, 5, 7):
        few = images(patients(2 * n_patients))
        check_splits(few, assign(few, seed=seed), exclusive=True)
    both = images(patients(200) + patients(10), [0] * 200 + [1] * 10)
    one = images(patients(200), [1] * 10 + [0] * 190).drop(columns="label_well")
    for manifest in (both, one):
        ill = assign(manifest, seed=seed)["split"][manifest["label_ill"] == 1]
        assert sorted(ill.value_counts().tolist()) == [1, 2, 7]


def test_the_same_patient_number_in_two_sources_is_two_patients():
    one, two = images(["1"] * 2, source="one"), images(["1"] * 2, source="two", start=2)
    registry = pd.concat([assign(one).assign(split="train"), assign(two).assign(split="test")])
    manifest = pd.concat([one, two], ignore_index=True)
    assert assign(manifest, registry)["split"].tolist() == ["train", "train", "test", "test"]


def test_a_renamed_or_rewritten_image_keeps_its_split_and_has_one_row():
    early = images([None] * 40)
    registry = assign(early, pd.DataFrame(columns=list(COLUMNS)))
    renamed = early.assign(image=[f"new/{number}.png" for number in range(40)], source="renamed")
    rewritten = early.assign(sha256=[f"{number + 1000:064x}" for number in range(40)])
    for late in (renamed, rewritten):
        splits = assign(late, registry, seed=9)
        assert splits["split"].tolist() == registry["split"].tolist()
        pd.testing.assert_frame_equal(splits[["source", "image", "sha256"]], late[["source", "image", "sha256"]])


def test_the_content_of_an_image_but_not_its_name_determines_the_split_of_its_patient():
    registry = assign(images(["old"] * 2)).assign(split="test")
    assert set(assign(images(["new"] * 5), registry)["split"]) == {"test"}
    assert set(assign(images(["new"] * 2).assign(sha256=["e" * 64, "f" * 64]), registry)["split"]) == {"train"}


@pytest.mark.parametrize(("earlier", "start"), [([None] * 2, 0), (["p1", "p1"], 5)])
def test_a_registry_with_a_patient_in_two_splits(earlier, start):
    registry = assign(images(earlier)).assign(split=["train", "test"])
    with pytest.raises(UserError, match=r"for 1 patients: images/p1\..*<task>\.splitting\.renew=true"):
        assign(images(["p1", "p1"], start=start), registry)


def test_given_splits_are_kept_or_ignored():
    given = ["train"] * 20 + ["validation"] * 4 + ["test"] * 6
    manifest = images(patients(30), given=given)
    assert assign(manifest)["split"].tolist() == given
    ignored = assign(manifest, ignore=True)
    assert ignored["split"].tolist() != given
    assert by_image(ignored) == by_image(assign(manifest.assign(given_split=images([None] * 30)["given_split"])))
    of_one_image = assign(images(["a", "a", *patients(60)], given=["test", None] + [None] * 60))["split"]
    assert of_one_image[:2].tolist() == ["test", "test"]
    assert of_one_image[2:].value_counts()["train"] == 42


def test_a_validation_part_is_cut_from_train_if_none_is_given_and_a_test_part_if_no_source_gives_one():
    train_only = images(patients(40), given=["train"] * 40)
    counts = assign(train_only)["split"].value_counts()
    assert counts.to_dict() == {"train": 28, "validation": 6, "test": 6}
    other = images(patients(10), given=["test"] * 10, source="other", start=40)
    both = assign(pd.concat([train_only, other], ignore_index=True))["split"]
    assert both[:40].value_counts().to_dict() == {"train": 32, "validation": 8}
    assert set(both[40:]) == {"test"}


def test_splits_cut_from_train_are_kept_when_an_official_test_part_is_added():
    early = images(patients(40), given=["train"] * 40)
    registry = assign(early)
    late = images(patients(50), given=["train"] * 40 + ["test"] * 10)
    splits = assign(late, registry)
    assert splits["split"][:40].tolist() == registry["split"].tolist()
    assert (splits["split"][40:] == "test").all()


def test_a_test_image_that_earlier_runs_trained_on():
    registry = assign(images(patients(4))).assign(split="train")
    manifest = images(patients(4), given=["train", "train", "train", "test"])
    with pytest.raises(UserError, match=r"of 1 patients for another split.*images/3\..*ignore_given_split=true"):
        assign(manifest, registry)
    assert (assign(manifest, registry, ignore=True)["split"] == "train").all()


def test_counts_of_splits_and_sources():
    manifest = images(["a", "a", "b", None, None], [1, 0, 0, 1, 1])
    manifest.loc[2, "label_well"], manifest.loc[4, "source"] = np.nan, "other"
    splits = assign(manifest).assign(split=["train", "train", "train", "validation", "test"])
    assert count_splits(manifest, splits, ["well", "ill"]) == {
        "train": {"well": 1, "ill": 1, "images": 3, "patients": 2, "effective_patients": 2},
        "validation": {"well": 0, "ill": 1, "images": 1, "patients": None, "effective_patients": None},
        "test": {"well": 0, "ill": 1, "images": 1, "patients": None, "effective_patients": None},
    }
    assert count_sources(manifest, splits) == {
        "images": {"train": 3, "validation": 1, "test": 0},
        "other": {"train": 0, "validation": 0, "test": 1},
    }


def test_a_leaky_split_is_refused_unless_it_is_ignored(shared_data):
    folder = shared_data / "nih_64_leaky"
    listing = LAYOUTS["class_folders"].read(folder, patient_id=r"^(\d{8})_")
    labels = LabelMap({"normal": ("0_normal",), "abnormal": ("1_abnormal",)})
    manifest, _, _ = list_images({"images": (FileReader(folder), listing)}, labels=labels)
    with pytest.raises(UserError, match=r"30 patients are in several: .*ignore_given_split=true"):
        check_splits(manifest, assign(manifest), exclusive=True)
    check_splits(manifest, assign(manifest, ignore=True), exclusive=True)
