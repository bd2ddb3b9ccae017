import hashlib
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.splits import COLUMNS, assign_splits, select_split
from cxr_pipeline.deployment.data_changes import (
    News,
    check_unseen,
    extend_ledger,
    find_news,
    images_moved,
    images_new_to,
    images_not_compared,
    images_used,
    too_many_relabelled,
    too_much_drift,
    whether_to_train,
)

SHARES = {"train": 0.5, "validation": 0.25, "test": 0.25, "ignore_given_split": False}


def content(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def manifest(patients: dict[str, int], *, ill: int = 3) -> pd.DataFrame:
    """Images of patients, so many of each; every so many-th patient is ill."""
    rows = [
        {
            "source": "images",
            "image": f"{patient}_{number}.png",
            "sha256": content(f"{patient}_{number}"),
            "patient_id": patient,
            "label_ill": float(int(patient[1:]) % ill == 0),
            "label_well": float(int(patient[1:]) % ill != 0),
            "given_split": None,
        }
        for patient, n_images in patients.items()
        for number in range(n_images)
    ]
    return pd.DataFrame(rows).astype({"patient_id": "str", "given_split": "str"})


def empty_ledger() -> pd.DataFrame:
    return pd.DataFrame(columns=list(COLUMNS), dtype="str")


def dealt(images: pd.DataFrame, ledger: pd.DataFrame | None = None, seed: int = 1) -> pd.DataFrame:
    return assign_splits(images, empty_ledger() if ledger is None else ledger, seed=seed, **SHARES)


NOBODY = pd.DataFrame(columns=["sha256", "reason", "detail"], dtype="str")
IMAGES = manifest({f"p{number}": 2 for number in range(12)})
SPLITS = dealt(IMAGES)
USED = images_used(IMAGES, SPLITS, NOBODY)


class TestImagesUsed:
    def test_are_named_by_content_and_by_nothing_else(self) -> None:
        assert list(USED.columns) == ["sha256", "split", "label_ill", "label_well"]
        assert USED["sha256"].is_monotonic_increasing
        assert USED["split"].value_counts().to_dict() == SPLITS["split"].value_counts().to_dict()
        for split in ("train", "validation", "test"):
            there = set(select_split(IMAGES, SPLITS, split)["sha256"])
            assert set(USED.loc[USED["split"] == split, "sha256"]) == there

    def test_do_not_include_images_that_are_gone(self) -> None:
        later = IMAGES.iloc[4:].reset_index(drop=True)
        assert set(images_used(later, SPLITS, NOBODY)["sha256"]) == set(later["sha256"])

    def test_include_those_that_could_not_be_decoded(self) -> None:
        refused = pd.DataFrame({"sha256": [content("bad")], "reason": ["truncated"], "detail": [""]})
        used = images_used(IMAGES, SPLITS, refused)
        assert used.loc[used["sha256"] == content("bad"), "split"].tolist() == ["refused"]
        assert used.loc[used["split"] == "refused", "label_ill"].isna().all()


class TestNews:
    def test_there_is_none_of_the_same_images_whatever_they_are_called(self) -> None:
        same = IMAGES.assign(image="x" + IMAGES["image"], source="other").iloc[::-1]
        assert find_news(same, USED) == News(0, 0, 0, known=24)
        assert not find_news(same, USED).any

    def test_new_and_gone_images_are_counted(self) -> None:
        today = pd.concat([IMAGES.iloc[5:], manifest({"p30": 3})])
        news = find_news(today, USED)
        assert news == News(new=3, relabelled=0, gone=5, known=19)
        assert str(news) == "3 new images, 0 with other labels, 5 gone"

    def test_images_that_are_gone_are_news_but_nothing_newer(self) -> None:
        news = find_news(IMAGES.iloc[1:], USED)
        assert news.any
        assert not news.newer
        assert News(1, 0, 0, 9).newer
        assert News(0, 1, 0, 9).newer

    def test_another_label_is_news(self) -> None:
        today = IMAGES.copy()
        today.loc[[0, 7], "label_ill"] = 1 - today.loc[[0, 7], "label_ill"]
        assert find_news(today, USED) == News(0, 2, 0, known=24)

    def test_a_label_that_is_not_known_is_the_same_again(self) -> None:
        images = IMAGES.assign(label_ill=np.where(IMAGES.index < 4, np.nan, IMAGES["label_ill"]))
        assert not find_news(images, images_used(images, SPLITS, NOBODY)).any
        assert find_news(IMAGES, images_used(images, SPLITS, NOBODY)) == News(0, 4, 0, known=24)
        assert find_news(images, USED) == News(0, 4, 0, known=24)

    def test_other_classes_are_other_labels_of_every_image(self) -> None:
        today = IMAGES.rename(columns={"label_well": "label_nodule"})
        assert find_news(today, USED).relabelled == len(IMAGES)

    def test_a_image_that_could_not_be_decoded_before_is_no_news(self) -> None:
        refused = IMAGES.iloc[[0]][["sha256"]].assign(reason="truncated", detail="")
        used = images_used(IMAGES.iloc[1:].reset_index(drop=True), SPLITS, refused)
        assert find_news(IMAGES, used) == News(0, 0, 0, known=23)

    @given(st.sets(st.integers(0, 23)), st.sets(st.integers(0, 23)))
    def test_images_are_counted_as_sets_are(self, now: set[int], then: set[int]) -> None:
        used = USED[USED["sha256"].isin(IMAGES.iloc[sorted(then)]["sha256"])]
        news = find_news(IMAGES.iloc[sorted(now)], used)
        assert news == News(new=len(now - then), relabelled=0, gone=len(then - now), known=len(now & then))


class TestLabels:
    def test_a_few_may_be_mended(self) -> None:
        assert too_many_relabelled(News(new=50, relabelled=5, gone=0, known=100), max_fraction=0.05) is None
        assert too_many_relabelled(News(new=50, relabelled=0, gone=0, known=0), max_fraction=0) is None

    def test_many_that_change_at_once_stop_it(self) -> None:
        news = News(new=50, relabelled=6, gone=0, known=100)
        why = too_many_relabelled(news, max_fraction=0.05, task="chest")
        assert why is not None
        assert why.startswith("6 of 100 images have other labels")
        allowed = re.search(r"--params chest\.retraining\.max_relabelled_fraction=([\d.]+)", why)
        assert allowed is not None
        assert too_many_relabelled(news, max_fraction=float(allowed[1])) is None


class TestDrift:
    @pytest.mark.parametrize("verdict", ["none", "warn", "unknown"])
    def test_what_is_not_refused_goes_on(self, verdict: str) -> None:
        found = {"verdict": verdict, "sentence": "?", "n_new": 40, "since": 3}
        assert too_much_drift(found, model="m", champion=3) is None

    def test_a_refusal_says_what_drifted_and_how_to_go_on(self) -> None:
        found = {
            "verdict": "refuse",
            "sentence": "Drift in pixels (noise, KS distance 0.95).",
            "n_new": 1234,
            "since": 3,
        }
        why = too_much_drift(found, model="m", champion=3, task="chest")
        assert why is not None
        for part in ("1,234", "the champion, m 3,", found["sentence"], "--params chest.retraining.on_drift=warn"):
            assert part in why
        assert "rollback" not in why

    def test_what_was_trained_on_before_it_could_be_told_is_named(self) -> None:
        found = {"verdict": "refuse", "sentence": "?", "n_new": 40, "since": 2}
        why = too_much_drift(found, model="m", champion=5, task="chest")
        assert why is not None
        for part in ("unlike those that m 2 comes from", "the champion, m 5, has learned from", "chest_rollback"):
            assert part in why


def test_images_are_new_by_their_content() -> None:
    images = pd.DataFrame({"image": ["a", "b", "c"], "sha256": ["1", "2", "3"]})
    used = pd.DataFrame({"sha256": ["2", "9"], "split": ["refused", "train"]})
    assert images_new_to(images, used)["image"].tolist() == ["a", "c"]


def test_images_were_compared_with_the_labels_that_they_had() -> None:
    images = pd.DataFrame({"sha256": ["1", "2", "3", "4"], "label_ill": [1.0, 0.0, None, 1.0]})
    compared = pd.DataFrame({"sha256": ["1", "2", "3"], "split": "train", "label_ill": [1.0, 1.0, None]})
    assert images_not_compared(images, compared)["sha256"].tolist() == ["2", "4"]
    other = compared.rename(columns={"label_ill": "label_well"})
    assert images_not_compared(images, other)["sha256"].tolist() == ["1", "2", "3", "4"]


class TestWhetherToTrain:
    @pytest.mark.parametrize(
        ("champion", "news", "decided", "force", "train", "why"),
        [
            (None, None, None, False, True, "m has no champion; there are 7 images to learn from."),
            (None, None, (4, "not promoted"), False, False, "m 4 learned from these 7 images, and was not promoted."),
            (None, None, (4, "not promoted"), True, True, "was not promoted. A challenger was asked for."),
            (3, News(0, 0, 0, 9), None, False, False, "the 7 images are those of the champion, m 3."),
            (3, News(0, 0, 0, 9), None, True, True, "those of the champion, m 3. A challenger was asked for."),
            (3, News(0, 0, 0, 9), (3, "promoted"), True, False, "the 7 images are those of the champion, m 3."),
            (3, News(1, 0, 0, 9), None, False, True, "Since the champion, m 3: 1 new images"),
            (
                3,
                News(0, 0, 1, 9),
                None,
                False,
                True,
                "Since the champion, m 3: 0 new images, 0 with other labels, 1 gone.",
            ),
            (
                3,
                News(1, 0, 0, 9),
                (4, "rolled back"),
                False,
                False,
                "m 4 learned from these 7 images, and was rolled back.",
            ),
        ],
    )
    def test_it_depends_on_champion_news_and_what_was_decided(self, champion, news, decided, force, train, why) -> None:
        found, said = whether_to_train("m", champion, news, decided, n_images=7, force=force)
        assert found == train
        assert why in said


class TestLedger:
    def test_an_empty_one_takes_everything(self) -> None:
        pd.testing.assert_frame_equal(extend_ledger(empty_ledger(), SPLITS), SPLITS)

    def test_what_another_run_added_meanwhile_stays(self) -> None:
        other = dealt(manifest({"p40": 2, "p41": 1, "p42": 1}), SPLITS)
        extended = extend_ledger(other, SPLITS)
        assert set(extended["image"]) == set(other["image"])
        assert images_moved(extended, other).empty
        assert images_moved(other, extended).empty

    def test_a_patient_that_would_move_stops_it_and_is_named(self) -> None:
        torn = SPLITS["patient_id"] == "p3"
        moved = SPLITS.assign(split=SPLITS["split"].mask(torn, "validation"))
        if (SPLITS.loc[torn, "split"] == "validation").all():
            moved = SPLITS.assign(split=SPLITS["split"].mask(torn, "train"))
        with pytest.raises(UserError, match=r"chest\.splits .*1 patients would move \(images/p3\)"):
            extend_ledger(SPLITS, moved, task="chest")

    def test_a_new_image_of_a_patient_in_another_split_is_a_move(self) -> None:
        split = SPLITS.loc[SPLITS["patient_id"] == "p3", "split"].iloc[0]
        new = SPLITS[SPLITS["patient_id"] == "p3"].iloc[[0]].assign(image="new.png", sha256=content("new"))
        assert images_moved(SPLITS, new).empty
        other = "train" if split != "train" else "test"
        assert len(images_moved(SPLITS, new.assign(split=other))) == 1

    def test_the_same_content_under_another_patient_in_another_split_is_a_move(self) -> None:
        row = SPLITS.iloc[[0]]
        other = "train" if row["split"].iloc[0] != "train" else "test"
        assert images_moved(SPLITS, row.assign(image="copy.png", patient_id="p99")).empty
        assert len(images_moved(SPLITS, row.assign(image="copy.png", patient_id="p99", split=other))) == 1

    @settings(max_examples=20)
    @given(st.lists(st.integers(0, 30), min_size=9, unique=True), st.integers(3, 6), st.integers(0, 3))
    def test_nobody_ever_moves_as_data_grow(self, numbers: list[int], first: int, seed: int) -> None:
        ledger = empty_ledger()
        seen: dict[str, str] = {}
        for end in (first, 2 * first, len(numbers)):
            images = manifest({f"p{number}": 1 + number % 3 for number in numbers[:end]})
            ledger = extend_ledger(ledger, dealt(images, ledger, seed))
            now = ledger.groupby("patient_id")["split"].agg(["first", "nunique"])
            assert (now["nunique"] == 1).all()
            assert seen.items() <= now["first"].to_dict().items()
            seen = now["first"].to_dict()


class TestUnseen:
    test_images = select_split(IMAGES, SPLITS, "test")

    def test_the_test_images_of_the_same_ledger_are_unseen(self) -> None:
        check_unseen(self.test_images, USED, SPLITS, version="m 1")

    @pytest.mark.parametrize("split", ["train", "validation"])
    def test_a_image_that_was_learned_from_is_found(self, split: str) -> None:
        one = self.test_images["sha256"].iloc[0]
        used = USED.assign(split=USED["split"].mask(USED["sha256"] == one, split))
        with pytest.raises(UserError, match=f"m 1 cannot be compared .* 2 of {len(self.test_images)}"):
            check_unseen(self.test_images, used, SPLITS, version="m 1")

    def test_another_image_of_a_patient_that_was_learned_from_is_found(self) -> None:
        patient = SPLITS.loc[SPLITS["split"] == "train", "patient_id"].iloc[0]
        new = self.test_images.iloc[[0]].assign(patient_id=patient, sha256=content("new"), image="new.png")
        with pytest.raises(UserError, match="learned from 1 of 1"):
            check_unseen(new, USED, SPLITS, version="m 1")

    def test_images_without_a_patient_are_told_apart_by_content(self) -> None:
        ledger = SPLITS.assign(patient_id=None)
        check_unseen(self.test_images.assign(patient_id=None), USED, ledger, version="m 1")
