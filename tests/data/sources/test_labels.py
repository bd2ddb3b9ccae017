import math

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.sources.labels import LabelMap

VOCABULARY = ("Effusion", "Mass", "No Finding", "Pneumonia")
ONE = LabelMap({"nofinding": ("No Finding", "normal"), "effusion": ("Effusion",)})
MANY = LabelMap({"fluid": ("Effusion", "Edema"), "mass": ("Mass",)}, exclusive=False)
NAN = math.nan


def rows(*texts: str | None, uncertain: str | None = None, unknown: str | None = None) -> pd.DataFrame:
    return pd.DataFrame({"labels": texts, "uncertain": uncertain, "unknown": unknown}, dtype="str")


def only(meaning: LabelMap, labels: str | None, vocabulary: tuple[str, ...] = VOCABULARY, **others: str) -> pd.Series:
    found = meaning.apply(rows(labels, **others), vocabulary)
    assert found.columns.tolist() == [*(f"label_{name}" for name in meaning.classes), "reason", "detail", "left_out"]
    return found.iloc[0]


def values(outcome: pd.Series) -> list[float]:
    assert outcome[["reason", "detail", "left_out"]].isna().all()
    return outcome.filter(regex="^label_").tolist()


def assert_left_out(outcome: pd.Series, why: str) -> None:
    assert outcome["left_out"] == why
    assert outcome.drop("left_out").isna().all()


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ("Effusion", [0.0, 1.0]),
        ("Effusion|Mass", [0.0, 1.0]),
        ("mass | EFFUSION", [0.0, 1.0]),
        ("no_finding", [1.0, 0.0]),
        ("NORMAL", [1.0, 0.0]),
        ("No Finding|normal", [1.0, 0.0]),
    ],
)
def test_labels_of_exclusive_classes(labels: str, expected: list[float]) -> None:
    assert values(only(ONE, labels)) == expected


@pytest.mark.parametrize("meaning", [ONE, MANY])
@pytest.mark.parametrize(
    ("labels", "others", "detail"),
    [
        ("Hernia", {}, "Hernia"),
        ("Effusion|Hernia", {}, "Hernia"),
        ("Effusion", {"uncertain": "Hernia"}, "Hernia"),
        ("Mass", {"vocabulary": ("Effusion",)}, "Mass"),
        (None, {}, "no label"),
    ],
)
def test_unknown_labels_are_refused(
    meaning: LabelMap, labels: str | None, others: dict[str, object], detail: str
) -> None:
    if meaning is MANY and labels == "Mass":
        pytest.skip("Mass is one of its labels")
    outcome = only(meaning, labels, **others)
    assert outcome["reason"] == "unknown_label"
    assert detail in outcome["detail"]
    assert outcome.drop(["reason", "detail"]).isna().all()


@pytest.mark.parametrize(
    ("labels", "why"),
    [("Mass", "other_classes"), ("", "other_classes"), ("Effusion|No Finding", "several_classes")],
)
def test_images_left_out_where_classes_are_exclusive(labels: str, why: str) -> None:
    assert_left_out(only(ONE, labels), why)


def test_images_with_a_label_of_left_out() -> None:
    for exclusive in (True, False):
        meaning = LabelMap({"well": ["No Finding"], "ill": ["*"]}, left_out=["support_devices"], exclusive=exclusive)
        vocabulary = (*VOCABULARY, "Support Devices")
        assert_left_out(only(meaning, "Mass|Support Devices", vocabulary), "listed")
        assert values(only(meaning, "Mass", vocabulary)) == [0.0, 1.0]
    assert values(only(meaning, "Mass", vocabulary, uncertain="Support Devices")) == [0.0, 1.0]
    positive = LabelMap({"ill": ["Mass"]}, left_out=["Hernia"], uncertain="positive", exclusive=False)
    assert_left_out(only(positive, "Mass", uncertain="Hernia"), "listed")


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize(
    ("labels", "expected"), [("No Finding", [1.0, 0.0]), ("Mass", [0.0, 1.0]), ("Mass|Pneumonia", [0.0, 1.0])]
)
def test_a_star_is_every_other_label(exclusive: bool, labels: str, expected: list[float]) -> None:
    meaning = LabelMap({"normal": ["No Finding"], "abnormal": ["*"]}, exclusive=exclusive)
    assert values(only(meaning, labels)) == expected


def test_a_star_covers_only_the_vocabulary() -> None:
    meaning = LabelMap({"normal": ["No Finding"], "abnormal": ["*", "sick"]})
    assert only(meaning, "Broken rib")["reason"] == "unknown_label"
    assert values(only(meaning, "sick")) == [0.0, 1.0]


@pytest.mark.parametrize(
    ("meaning", "labels", "uncertain", "expected"),
    [
        ("unknown", "", "Effusion", "uncertain"),
        ("unknown", "No Finding", "Effusion", "uncertain"),
        ("unknown", "Effusion", "Mass", [0.0, 1.0]),
        ("unknown", "Effusion", "Effusion", [0.0, 1.0]),
        ("positive", "", "Effusion", [0.0, 1.0]),
        ("positive", "No Finding", "Effusion", "several_classes"),
        ("negative", "", "Effusion", "other_classes"),
        ("negative", "No Finding", "Effusion", [1.0, 0.0]),
    ],
)
def test_uncertain_labels_of_exclusive_classes(
    meaning: str, labels: str, uncertain: str, expected: list[float] | str
) -> None:
    outcome = only(LabelMap(ONE.classes, uncertain=meaning), labels, uncertain=uncertain)
    if isinstance(expected, str):
        assert_left_out(outcome, expected)
    else:
        assert values(outcome) == expected


def test_unknown_labels_of_exclusive_classes() -> None:
    assert values(only(ONE, "No Finding", unknown="Effusion|Mass")) == [1.0, 0.0]
    assert_left_out(only(ONE, "Mass", unknown="Effusion"), "uncertain")
    assert_left_out(only(ONE, "Mass", unknown="Pneumonia"), "other_classes")


@pytest.mark.parametrize(
    ("labels", "others", "expected"),
    [
        ("Effusion", {}, [1.0, 0.0]),
        ("Effusion|Mass", {}, [1.0, 1.0]),
        ("No Finding", {}, [0.0, 0.0]),
        ("", {}, [0.0, 0.0]),
        ("Mass", {"uncertain": "Effusion"}, [NAN, 1.0]),
        ("Mass", {"unknown": "Effusion"}, [NAN, 1.0]),
        ("Edema", {"uncertain": "Effusion"}, [1.0, 0.0]),
        ("Edema", {"unknown": "Effusion|Mass"}, [1.0, NAN]),
    ],
)
def test_labels_of_several_classes(labels: str, others: dict[str, str], expected: list[float]) -> None:
    assert values(only(MANY, labels, **others)) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(("meaning", "expected"), [("unknown", NAN), ("positive", 1.0), ("negative", 0.0)])
def test_uncertain_labels_of_several_classes(meaning: str, expected: float) -> None:
    several = LabelMap(MANY.classes, uncertain=meaning, exclusive=False)
    assert values(only(several, "Mass", uncertain="Edema|Pneumonia", vocabulary=(*VOCABULARY, "Edema"))) == (
        pytest.approx([expected, 1.0], nan_ok=True)
    )


def test_a_class_whose_labels_the_source_does_not_use_is_unknown() -> None:
    assert values(only(MANY, "Mass", vocabulary=("Mass", "Pneumonia"))) == pytest.approx([NAN, 1.0], nan_ok=True)
    without_vocabulary = MANY.apply(rows("Mass", "Edema"), ())
    assert without_vocabulary[["label_fluid", "label_mass"]].to_numpy().tolist() == [[0.0, 1.0], [1.0, 0.0]]


def test_an_image_without_a_known_class_is_left_out() -> None:
    assert_left_out(only(MANY, "No Finding", uncertain="Effusion", unknown="Mass"), "uncertain")
    assert_left_out(only(MANY, "Pneumonia", vocabulary=("Pneumonia",)), "other_classes")


def test_index_and_order_are_kept() -> None:
    images = rows("Effusion", "normal", "Effusion", "Mass").set_axis([7, 3, 5, 1])
    outcome = ONE.apply(images, VOCABULARY)
    assert outcome.index.tolist() == [7, 3, 5, 1]
    assert outcome["label_effusion"].tolist()[:3] == [1.0, 0.0, 1.0]
    assert outcome["left_out"].tolist()[3] == "other_classes"


def test_types_do_not_depend_on_the_rows() -> None:
    expected = ["float64", "float64", "str", "str", "str"]
    assert ONE.apply(rows(), VOCABULARY).dtypes.astype("str").tolist() == expected
    assert ONE.apply(rows("Effusion"), VOCABULARY).dtypes.astype("str").tolist() == expected


def test_the_class_of_a_label() -> None:
    star = LabelMap({"normal": ["No Finding"], "abnormal": ["*"]}, left_out=["Hernia"])
    assert [star.class_of(label) for label in ("no_finding", "Mass", "hernia")] == ["normal", "abnormal", None]
    assert [ONE.class_of(label) for label in ("EFFUSION", "Mass")] == ["effusion", None]


@pytest.mark.parametrize(
    ("classes", "left_out", "message"),
    [
        ({"well": ("No Finding",), "ill": ("no_finding",)}, (), r"'No Finding' belongs to both well and ill"),
        ({"well": ("*",), "ill": ("*",)}, (), r"'\*' belongs to both well and ill"),
        ({"well": ("No Finding",), "ill": ("Mass",)}, ("MASS",), r"left_out.*MASS.*ill"),
    ],
)
def test_a_label_with_two_meanings_is_an_error(
    classes: dict[str, tuple[str, ...]], left_out: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        LabelMap(classes, left_out)


text = st.one_of(st.none(), st.sets(st.sampled_from([*VOCABULARY, "Hernia", "Rib"])).map("|".join))
tables = st.lists(st.tuples(text, text, text), max_size=12).map(
    lambda found: pd.DataFrame(found, columns=["labels", "uncertain", "unknown"]).astype("str")
)


@given(images=tables, uncertain=st.sampled_from(["unknown", "positive", "negative"]), exclusive=st.booleans())
def test_each_row_is_kept_refused_or_left_out(images: pd.DataFrame, uncertain: str, exclusive: bool) -> None:
    classes = {"fluid": ("Effusion",), "mass": ("Mass",), "other": ("*",)}
    meaning = LabelMap(classes, ["Hernia"], uncertain, exclusive=exclusive)
    found = meaning.apply(images, (*VOCABULARY, "Hernia"))
    labels = found.filter(regex="^label_")
    kept = labels.notna().any(axis=1)
    assert (kept.astype(int) + found["reason"].notna() + found["left_out"].notna()).eq(1).all()
    assert labels[kept].isin([0.0, 1.0]).where(labels[kept].notna(), True).all(axis=None)
    if exclusive:
        assert labels[kept].sum(axis=1).eq(1).all()
        assert labels[kept].notna().all(axis=None)
