"""Tests of dealing: laws that hold for any manifest, and cases with a known answer."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.leakage import check_splits
from cxr_pipeline.data.sources import read_source
from cxr_pipeline.data.splits import (
    COLUMNS,
    SPLITS,
    assign_splits,
    count_sources,
    count_splits,
    join_names,
    rarest_first,
    select_split,
)

NO_LEDGER = pd.DataFrame(columns=list(COLUMNS), dtype="str")


def images(
    patients: list[str | None],
    ill: list[int] | None = None,
    given: list[str | None] | None = None,
    source: str = "images",
    start: int = 0,
) -> pd.DataFrame:
    """A manifest with one row a patient named; contents are numbered from ``start``."""
    numbers = range(start, start + len(patients))
    positive = pd.Series(ill if ill is not None else [number % 2 for number in numbers], dtype="float64")
    return pd.DataFrame(
        {
            "source": source,
            "image": [f"{number}.png" for number in numbers],
            "sha256": [f"{number:064x}" for number in numbers],
            "patient_id": pd.Series(patients, dtype="str"),
            "label_well": 1 - positive,
            "label_ill": positive,
            "given_split": pd.Series(given if given is not None else [None] * len(patients), dtype="str"),
        }
    )


def deal(
    manifest: pd.DataFrame, ledger: pd.DataFrame = NO_LEDGER, *, seed: int = 0, ignore_given_split: bool = False
) -> pd.DataFrame:
    return assign_splits(
        manifest,
        ledger,
        train=0.7,
        validation=0.15,
        test=0.15,
        seed=seed,
        ignore_given_split=ignore_given_split,
        task="effusion",
    )


def n_splits_of_a_patient(splits: pd.DataFrame) -> set[int]:
    return set(splits.dropna(subset="patient_id").groupby("patient_id")["split"].nunique())


def by_image(splits: pd.DataFrame) -> dict[str, str]:
    return dict(zip(splits["image"], splits["split"], strict=True))


manifests = st.lists(
    st.tuples(st.one_of(st.none(), st.integers(0, 15).map(str)), st.integers(0, 1)), min_size=1, max_size=60
).map(lambda rows: images([patient for patient, _ in rows], [ill for _, ill in rows]))


@settings(max_examples=25, deadline=None)
@given(manifest=manifests, seed=st.integers(0, 5))
def test_every_image_has_a_split_and_no_patient_two(manifest: pd.DataFrame, seed: int) -> None:
    splits = deal(manifest, seed=seed)
    assert list(splits.columns) == list(COLUMNS)
    assert splits["image"].tolist() == manifest["image"].tolist()
    assert splits["split"].isin(SPLITS).all()
    assert n_splits_of_a_patient(splits) <= {1}


@settings(max_examples=15, deadline=None)
@given(manifest=manifests, data=st.data())
def test_the_order_of_rows_does_not_matter(manifest: pd.DataFrame, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(manifest))))
    shuffled = manifest.iloc[order].reset_index(drop=True)
    assert by_image(deal(shuffled)) == by_image(deal(manifest))


@settings(max_examples=20, deadline=None)
@given(manifest=manifests, data=st.data(), seed=st.integers(0, 5))
def test_growth_never_moves_anybody(manifest: pd.DataFrame, data: st.DataObject, seed: int) -> None:
    """Images come, go and come back, the seed changes, and every image and patient stays where it was."""
    present = data.draw(st.lists(st.lists(st.booleans(), min_size=60, max_size=60), min_size=2, max_size=4))
    ledger, seen = NO_LEDGER, {}
    for number, chosen in enumerate([*present, [True] * 60]):
        ledger = deal(manifest[chosen[: len(manifest)]].reset_index(drop=True), ledger, seed=seed + number)
        now = by_image(ledger)
        assert {image: now[image] for image in seen} == seen
        assert ledger["image"].is_unique
        assert n_splits_of_a_patient(ledger) <= {1}
        seen = now


@settings(max_examples=10, deadline=None)
@given(n_patients=st.integers(40, 300), prevalence=st.floats(0.1, 0.9), seed=st.integers(0, 1000))
def test_shares_are_kept_within_each_class(n_patients: int, prevalence: float, seed: int) -> None:
    ill = (np.random.default_rng(seed).random(n_patients) < prevalence).astype(int).tolist()
    manifest = images([str(number) for number in range(n_patients)], ill)
    for _, dealt in deal(manifest, seed=seed)["split"].groupby(manifest["label_ill"]):
        counts = dealt.value_counts()
        for split, share in zip(SPLITS, (0.7, 0.15, 0.15), strict=True):
            assert abs(counts.get(split, 0) - share * counts.sum()) <= 1.5


@pytest.mark.parametrize("n_patients", [3, 4, 5, 7])
def test_three_patients_of_a_class_reach_every_split(n_patients: int) -> None:
    manifest = images([str(number) for number in range(2 * n_patients)])
    splits = deal(manifest)
    check_splits(manifest, splits, exclusive=True)


def test_seeds_deal_differently_and_each_the_same_again() -> None:
    manifest = images([str(number) for number in range(60)])
    assert by_image(deal(manifest, seed=1)) == by_image(deal(manifest, seed=1))
    assert by_image(deal(manifest, seed=1)) != by_image(deal(manifest, seed=2))


def test_new_patients_bring_the_shares_back() -> None:
    early = images([str(number) for number in range(20)])
    ledger = deal(early).assign(split="validation")
    grown = images([str(number) for number in range(400)])
    counts = deal(grown, ledger)["split"].value_counts(normalize=True)
    assert counts["train"] == pytest.approx(0.7, abs=0.02)
    assert counts["validation"] == pytest.approx(0.15, abs=0.02)


def test_a_patient_with_both_classes_counts_for_the_rarer_one() -> None:
    """Ten patients have an ill image; were they dealt among the 200 others, some split would lack it."""
    patients = [str(number) for number in range(200)] + [str(number) for number in range(10)]
    manifest = images(patients, [0] * 200 + [1] * 10)
    for seed in range(5):
        ill = deal(manifest, seed=seed)["split"][manifest["label_ill"] == 1]
        assert sorted(ill.value_counts().tolist()) == [1, 2, 7]


def test_the_same_patient_number_in_two_sources_is_two_patients() -> None:
    one, two = images(["1"] * 2, source="one"), images(["1"] * 2, source="two", start=2)
    ledger = pd.concat([deal(one).assign(split="train"), deal(two).assign(split="test")])
    manifest = pd.concat([one, two], ignore_index=True)
    assert deal(manifest, ledger)["split"].tolist() == ["train", "train", "test", "test"]


def test_an_empty_ledger_read_from_a_file_of_objects() -> None:
    manifest = images([None] * 6)
    assert by_image(deal(manifest, pd.DataFrame(columns=list(COLUMNS)))) == by_image(deal(manifest))


def test_a_image_that_was_renamed_keeps_its_split_and_one_row() -> None:
    early = images([None] * 40)
    ledger = deal(early)
    renamed = early.assign(image="new/" + early["image"], source="renamed")
    splits = deal(renamed, ledger, seed=9)
    assert splits["split"].tolist() == ledger["split"].tolist()
    assert splits["image"].tolist() == renamed["image"].tolist()


def test_a_image_whose_file_was_written_anew_keeps_its_split_and_one_row() -> None:
    early = images([None] * 40)
    ledger = deal(early)
    anew = early.assign(sha256=[f"{number + 1000:064x}" for number in range(40)])
    splits = deal(anew, ledger, seed=9)
    assert splits["split"].tolist() == ledger["split"].tolist()
    assert splits["sha256"].tolist() == anew["sha256"].tolist()


def test_a_known_image_brings_its_patient_along() -> None:
    ledger = deal(images(["old"] * 2)).assign(split="test")
    manifest = pd.concat([images(["new"] * 2), images(["new"] * 3, start=2)], ignore_index=True)
    assert set(deal(manifest, ledger)["split"]) == {"test"}


def test_images_of_one_patient_dealt_apart_earlier_stop_the_run() -> None:
    ledger = deal(images([None] * 4)).assign(split=["train", "test", "train", "train"])
    with pytest.raises(UserError, match=r"for 1 patients: images/p1\..*delete the earlier splits \(effusion.splits"):
        deal(images(["p1", "p1", "p2", "p2"]), ledger)


def test_a_ledger_that_contradicts_itself_stops_the_run() -> None:
    ledger = deal(images(["p1", "p1"])).assign(split=["train", "test"])
    with pytest.raises(UserError, match="images/p1"):
        deal(images(["p1"], start=5), ledger)


def test_given_splits_are_kept_or_ignored() -> None:
    given = ["train"] * 20 + ["validation"] * 4 + ["test"] * 6
    manifest = images([str(number) for number in range(30)], given=given)
    assert deal(manifest)["split"].tolist() == given
    ignored = deal(manifest, ignore_given_split=True)
    assert ignored["split"].tolist() != given
    assert by_image(ignored) == by_image(deal(manifest.assign(given_split=images([None] * 30)["given_split"])))


def test_validation_is_cut_from_train_where_none_is_given() -> None:
    given = ["train"] * 80 + ["test"] * 20
    patients = [str(number // 2) for number in range(100)]
    manifest = images(patients, [number // 2 % 2 for number in range(100)], given)
    splits = deal(manifest)
    assert (splits["split"][80:] == "test").all()
    assert set(splits["split"][:80]) == {"train", "validation"}
    assert (splits["split"] == "validation").sum() == pytest.approx(80 * 0.15 / 0.85, abs=4)
    check_splits(manifest, splits, exclusive=True)


def test_test_is_cut_from_train_only_where_no_source_gives_one() -> None:
    train_only = images([str(number) for number in range(40)], given=["train"] * 40)
    counts = deal(train_only)["split"].value_counts()
    assert counts.to_dict() == {"train": 28, "validation": 6, "test": 6}
    other = images([str(number) for number in range(10)], given=["test"] * 10, source="other", start=40)
    both = deal(pd.concat([train_only, other], ignore_index=True))
    assert set(both["split"][:40]) == {"train", "validation"}
    assert set(both["split"][40:]) == {"test"}


def test_images_without_a_given_split_follow_their_patient_or_are_dealt() -> None:
    patients = ["a", "a", *(str(number) for number in range(60))]
    manifest = images(patients, given=["test", None] + [None] * 60)
    splits = deal(manifest)["split"]
    assert splits[:2].tolist() == ["test", "test"]
    assert splits[2:].value_counts()["train"] == 42


def test_a_cut_patient_stays_cut_when_the_official_test_arrives() -> None:
    early = images([str(number) for number in range(40)], given=["train"] * 40)
    ledger = deal(early)
    late = images([str(number) for number in range(50)], given=["train"] * 40 + ["test"] * 10)
    splits = deal(late, ledger)
    assert splits["split"][:40].tolist() == ledger["split"].tolist()
    assert (splits["split"][40:] == "test").all()


def test_a_given_test_image_that_was_trained_on_stops_the_run() -> None:
    ledger = deal(images([str(number) for number in range(4)])).assign(split="train")
    manifest = images([str(number) for number in range(4)], given=["train", "train", "train", "test"])
    with pytest.raises(UserError, match=r"of 1 patients for another split.*images/3\..*ignore_given_split=true"):
        deal(manifest, ledger)
    assert (deal(manifest, ledger, ignore_given_split=True)["split"] == "train").all()


def test_a_patient_given_to_two_splits_is_found_by_the_check() -> None:
    manifest = images(["a", "a", *map(str, range(12))], given=["train", "test", *["train", "validation", "test"] * 4])
    with pytest.raises(UserError, match="1 patients are in several: images/a"):
        check_splits(manifest, deal(manifest), exclusive=True)


def test_images_of_takes_one_split_in_the_manifest_s_order() -> None:
    manifest = images([str(number) for number in range(30)])
    splits = deal(manifest.iloc[::-1].reset_index(drop=True), deal(images(["gone"], start=99)))
    parts = {split: select_split(manifest, splits, split) for split in SPLITS}
    assert sum(len(part) for part in parts.values()) == 30
    for split, part in parts.items():
        assert list(part.columns) == list(manifest.columns)
        assert part["image"].tolist() == [image for image in manifest["image"] if by_image(splits)[image] == split]


def test_count_splits() -> None:
    manifest = images(["a", "a", "b", None, None], [1, 0, 0, 1, 1])
    splits = deal(manifest).assign(split=["train", "train", "train", "validation", "test"])
    assert count_splits(manifest, splits, ["well", "ill"]) == {
        "train": {"well": 2, "ill": 1, "images": 3, "patients": 2},
        "validation": {"well": 0, "ill": 1, "images": 1, "patients": None},
        "test": {"well": 0, "ill": 1, "images": 1, "patients": None},
    }


def test_count_sources() -> None:
    manifest = pd.concat([images(["a", "b", None]), images([None, None], source="other", start=3)], ignore_index=True)
    splits = deal(manifest).assign(split=["train", "train", "validation", "test", "test"])
    assert count_sources(manifest, splits) == {
        "images": {"train": 2, "validation": 1, "test": 0},
        "other": {"train": 0, "validation": 0, "test": 2},
    }


def several_classes(n_patients: int, seed: int = 0) -> pd.DataFrame:
    """Images of which each class is there in 30, 10 or 3 of 100, on its own, and in 20 of 100 not known."""
    numbers = np.random.default_rng(seed)
    drawn = {
        f"label_{name}": (numbers.random(n_patients) < share).astype(float)
        for name, share in {"often": 0.3, "seldom": 0.1, "rare": 0.03}.items()
    }
    manifest = images([str(number) for number in range(n_patients)]).drop(columns=["label_well", "label_ill"])
    labels = pd.DataFrame(drawn)
    return manifest.join(labels.mask(numbers.random(labels.shape) < 0.2))


@pytest.mark.parametrize("seed", range(3))
def test_rare_classes_of_several_reach_every_split(seed: int) -> None:
    manifest = several_classes(400, seed)
    splits = deal(manifest)
    counts = count_splits(manifest, splits, ["often", "seldom", "rare"])
    assert counts["validation"]["rare"] and counts["test"]["rare"]
    for name, total in {name: int(manifest[f"label_{name}"].sum()) for name in ("often", "seldom")}.items():
        assert counts["train"][name] == pytest.approx(0.7 * total, abs=0.15 * total)


def test_images_with_no_class_of_several_are_a_stratum_of_their_own() -> None:
    """Were they dealt together with the few ill ones, some split would lack those."""
    manifest = images([str(number) for number in range(200)], [1] * 6 + [0] * 194).drop(columns="label_well")
    for seed in range(5):
        ill = deal(manifest, seed=seed)["split"][:6]
        assert sorted(ill.value_counts().tolist()) == [1, 1, 4]


def test_count_splits_counts_no_unknown_label() -> None:
    manifest = images(["a", "b", "c"], [1, 0, 1]).assign(label_ill=[1.0, np.nan, np.nan], label_well=np.nan)
    splits = deal(manifest).assign(split="train")
    assert count_splits(manifest, splits, ["well", "ill"])["train"] == {"well": 0, "ill": 1, "images": 3, "patients": 3}


def test_classes_by_rarity() -> None:
    labels = pd.DataFrame({"often": [1.0, 1.0, np.nan], "never": [0.0, np.nan, 0.0], "once": [0.0, 1.0, 0.0]})
    assert rarest_first(labels).columns.tolist() == ["never", "once", "often"]
    assert rarest_first(labels[["once"]].assign(too=labels["once"])).columns.tolist() == ["too", "once"]


def test_long_lists_of_names_are_cut() -> None:
    assert join_names([str(number) for number in range(60)]).endswith("48, 49 and 10 more")
    assert join_names(["a", "b"]) == "a, b"


def test_nih_as_a_whole_is_dealt_by_patient(shared_data: Path) -> None:
    table = pd.read_csv(shared_data / "nih" / "Data_Entry_2017_v2020.csv.gz", usecols=range(4))
    ill = table["Finding Labels"].str.contains("Effusion").astype(int).tolist()
    manifest = images(table["Patient ID"].astype("str").tolist(), ill)
    splits = deal(manifest)
    check_splits(manifest, splits, exclusive=True)
    patients = splits.drop_duplicates("patient_id")["split"].value_counts(normalize=True)
    assert patients["train"] == pytest.approx(0.7, abs=0.001)
    assert by_image(deal(manifest, splits, seed=5)) == by_image(splits)


def test_the_leaky_split_is_refused_and_deals_cleanly_when_ignored(shared_data: Path) -> None:
    from cxr_pipeline.data.manifest import list_images
    from cxr_pipeline.data.sources.labels import LabelMap
    from cxr_pipeline.data.sources.readers import FileReader

    folder = shared_data / "nih_64_leaky"
    listing = read_source("class_folders", folder, patient_id=r"^(\d{8})_")
    labels = LabelMap({"normal": ("0_normal",), "abnormal": ("1_abnormal",)})
    manifest, _, _ = list_images({"images": (FileReader(folder), listing)}, labels=labels)
    with pytest.raises(UserError) as error:
        check_splits(manifest, deal(manifest), exclusive=True, task="abnormality")
    told = str(error.value)
    assert "30 patients are in several" in told
    assert told.count("images/") == 30
    assert "images/00000193" in told
    assert "--params abnormality.splitting.ignore_given_split=true" in told
    check_splits(manifest, deal(manifest, ignore_given_split=True), exclusive=True)
