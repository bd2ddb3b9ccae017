"""Tests of the way from labels to classes."""

import pandas as pd
import pytest

from cxr_pipeline.errors import UserError
from cxr_pipeline.sources.labels import class_by_label, classify

MEANING = class_by_label({"nofinding": ("No Finding", "normal"), "effusion": ("Effusion",)})
VOCABULARY = ("Effusion", "Mass", "No Finding")


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ("Effusion", "effusion"),
        ("Effusion|Mass", "effusion"),
        ("mass | EFFUSION", "effusion"),
        ("no_finding", "nofinding"),
        ("NORMAL", "nofinding"),
    ],
)
def test_labels_that_mean_a_class(labels: str, expected: str) -> None:
    outcome = classify(pd.Series([labels]), MEANING, VOCABULARY)
    assert outcome["class"].tolist() == [expected]
    assert outcome["reason"].isna().all()


@pytest.mark.parametrize(
    ("labels", "reason", "told"),
    [
        ("Hernia", "unknown_label", "Hernia"),
        ("Effusion|Hernia", "unknown_label", "Hernia"),
        ("", "unknown_label", "no label"),
        (None, "unknown_label", "no label"),
        (" | ", "unknown_label", "no label"),
        ("Effusion|No Finding", "contradicting_labels", "effusion and nofinding"),
    ],
)
def test_labels_that_are_refused(labels: str | None, reason: str, told: str) -> None:
    outcome = classify(pd.Series([labels], dtype="str"), MEANING, VOCABULARY)
    assert outcome["class"].isna().all()
    assert outcome["reason"].tolist() == [reason]
    assert told in outcome["detail"].item()


def test_a_known_label_without_a_class_is_left_out() -> None:
    outcome = classify(pd.Series(["Mass"]), MEANING, VOCABULARY)
    assert outcome[["class", "reason"]].isna().all(axis=None)


def test_without_a_vocabulary_every_other_label_is_unknown() -> None:
    assert classify(pd.Series(["Mass"]), MEANING, ())["reason"].tolist() == ["unknown_label"]


def test_index_and_order_are_kept() -> None:
    outcome = classify(pd.Series(["Effusion", "normal", "Effusion"], index=[7, 3, 5]), MEANING, ())
    assert outcome["class"].to_dict() == {7: "effusion", 3: "nofinding", 5: "effusion"}


def test_a_label_of_two_classes_is_an_error() -> None:
    with pytest.raises(UserError, match=r"no_finding.*well.*ill"):
        class_by_label({"well": ("No Finding",), "ill": ("no_finding",)})
