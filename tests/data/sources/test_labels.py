import math
import re

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.sources import chexpert, nih
from cxr_pipeline.data.sources.labels import LabelMap, propose_classes

VOCABULARY = ("Effusion", "Mass", "No Finding", "Pneumonia")
ONE = {"nofinding": ("No Finding", "normal", "0_normal"), "effusion": ("Effusion",)}
STAR = {"normal": ("No Finding",), "abnormal": ("*", "sick")}
SEVERAL = {"fluid": ("Effusion", "Edema"), "mass": ("Mass",)}
NAN = math.nan
HERNIA = "unknown_label: belongs to no class of the task: Hernia"
CONTRADICTION = "contradicting_labels: no finding and a finding: {}"


def rows(*labels, uncertain=None, unknown=None, outvoted=None):
    columns = {"labels": labels, "uncertain": uncertain, "unknown": unknown, "outvoted": outvoted}
    return pd.DataFrame(columns, dtype="str")


def apply(label_map, labels, vocabulary=VOCABULARY, **others):
    """Return the values of the classes of one image, or why it is refused or left out."""
    outcome = label_map.apply(rows(labels, **others), vocabulary)
    values, (reason, detail, left_out) = outcome.filter(regex="^label_").iloc[0], outcome.iloc[0, -3:]
    if pd.isna(reason) and pd.isna(left_out):
        return values.tolist()
    assert values.isna().all()
    return left_out if pd.isna(reason) else f"{reason}: {detail}"


@pytest.mark.parametrize(
    ("labels", "others", "expected"),
    [
        ("mass | EFFUSION", {}, [0.0, 1.0]),
        ("no_finding|NORMAL", {}, [1.0, 0.0]),
        ("Mass", {}, "other_classes"),
        ("", {}, "other_classes"),
        ("Effusion|No Finding", {}, CONTRADICTION.format("Effusion, No Finding")),
        ("normal|Mass", {}, CONTRADICTION.format("normal, Mass")),
        ("0_normal|Support Devices", {"vocabulary": ["Support Devices"]}, [1.0, 0.0]),
        ("Effusion|Hernia", {}, HERNIA),
        ("Effusion", {"uncertain": "Hernia"}, HERNIA),
        ("No Finding", {"outvoted": "Effusion|Hernia"}, HERNIA),
        ("No Finding", {"outvoted": "Effusion|Mass"}, [1.0, 0.0]),
        (None, {"outvoted": "Effusion|Hernia"}, HERNIA),
        (None, {"outvoted": "Effusion|Mass"}, "contradicting_labels: its readers found different labels"),
        ("Mass", {"vocabulary": ()}, "unknown_label: belongs to no class of the task: Mass"),
        (None, {}, "unknown_label: no label"),
        ("No Finding", {"uncertain": "Effusion"}, "uncertain"),
        ("", {"uncertain": "Effusion"}, "uncertain"),
        ("Effusion", {"uncertain": "Effusion|Mass"}, [0.0, 1.0]),
        ("No Finding", {"unknown": "Effusion|Mass"}, [1.0, 0.0]),
        ("Mass", {"unknown": "Effusion"}, "uncertain"),
        ("Mass", {"unknown": "Pneumonia"}, "other_classes"),
    ],
)
def test_exclusive_classes(labels, others, expected):
    assert apply(LabelMap(ONE), labels, **others) == expected


@pytest.mark.parametrize(
    ("labels", "others", "expected"),
    [
        ("Effusion|Mass", {}, [1.0, 1.0]),
        ("No Finding", {}, [0.0, 0.0]),
        ("", {}, [0.0, 0.0]),
        ("Mass", {"uncertain": "Effusion"}, [NAN, 1.0]),
        ("Edema", {"uncertain": "Effusion"}, [1.0, 0.0]),
        ("Edema", {"unknown": "Effusion|Mass"}, [1.0, NAN]),
        ("Mass", {"outvoted": "Effusion"}, [0.0, 1.0]),
        ("Mass", {"outvoted": "Effusion|Edema"}, [NAN, 1.0]),
        ("Mass", {"vocabulary": ("Mass", "Pneumonia")}, [NAN, 1.0]),
        ("No Finding", {"uncertain": "Effusion", "unknown": "Mass"}, "uncertain"),
        ("Pneumonia", {"vocabulary": ("Pneumonia",)}, "other_classes"),
        ("Hernia", {}, HERNIA),
        ("No Finding|Mass", {}, CONTRADICTION.format("No Finding, Mass")),
        (None, {}, "unknown_label: no label"),
    ],
)
def test_several_classes(labels, others, expected):
    outcome = apply(LabelMap(SEVERAL, exclusive=False), labels, **others)
    assert outcome == (expected if isinstance(expected, str) else pytest.approx(expected, nan_ok=True))


def test_several_labels_in_one_image():
    assert apply(LabelMap(SEVERAL), "Effusion|Mass") == "several_classes"
    assert apply(LabelMap(ONE, ["Mass"]), "No Finding|Mass") == "listed"
    two_for_normal = LabelMap({"normal": ("No Finding", "Healthy"), "mass": ("Mass",)}, exclusive=False)
    assert apply(two_for_normal, "Mass", outvoted="No Finding|Healthy") == [0.0, 1.0]


@pytest.mark.parametrize(
    ("uncertain", "of_effusion", "of_no_finding", "of_several"),
    [
        ("unknown", "uncertain", "uncertain", NAN),
        ("positive", [0.0, 1.0], "uncertain", 1.0),
        ("negative", "other_classes", [1.0, 0.0], 0.0),
    ],
)
def test_meanings_of_uncertain(uncertain, of_effusion, of_no_finding, of_several):
    one, several = LabelMap(ONE, uncertain=uncertain), LabelMap(SEVERAL, uncertain=uncertain, exclusive=False)
    assert apply(one, "", uncertain="Effusion") == of_effusion
    assert apply(one, "No Finding", uncertain="Effusion") == of_no_finding
    values = apply(several, "Mass", uncertain="Edema|Pneumonia", vocabulary=(*VOCABULARY, "Edema"))
    assert values == pytest.approx([of_several, 1.0], nan_ok=True)


@pytest.mark.parametrize("exclusive", [True, False])
def test_a_star_covers_the_rest_of_the_vocabulary_and_left_out_labels_are_listed(exclusive):
    vocabulary = (*VOCABULARY, "Support Devices")
    label_map = LabelMap(STAR, left_out=["support_devices"], exclusive=exclusive)
    for labels, expected in {"No Finding": [1.0, 0.0], "Mass|Pneumonia": [0.0, 1.0], "sick": [0.0, 1.0]}.items():
        assert apply(label_map, labels) == expected
    assert str(apply(label_map, "Broken rib")).startswith("unknown_label")
    classes = [label_map.class_of(label) for label in ("no_finding", "Mass", "support devices")]
    assert classes == ["normal", "abnormal", None]
    assert apply(label_map, "Mass|Support Devices", vocabulary) == "listed"
    assert apply(label_map, "Mass", vocabulary, uncertain="Support Devices") == [0.0, 1.0]
    positive = LabelMap(STAR, left_out=["support_devices"], uncertain="positive", exclusive=exclusive)
    assert apply(positive, "Mass", uncertain="Support Devices") == "listed"


def test_index_order_and_types_are_kept():
    images = rows("Effusion", "normal", "Effusion", "Mass").set_axis([7, 3, 5, 1])
    outcome = LabelMap(ONE).apply(images, VOCABULARY)
    assert outcome["label_effusion"].dropna().to_dict() == {7: 1.0, 3: 0.0, 5: 1.0}
    for table in (outcome, LabelMap(ONE).apply(images.head(0), VOCABULARY)):
        types = {"label_nofinding": "float64", "label_effusion": "float64", "reason": "str", "detail": "str"}
        assert table.dtypes.astype("str").to_dict() == {**types, "left_out": "str"}


@pytest.mark.parametrize(
    ("ill", "left_out", "message"),
    [
        ("no_finding", (), r"^<task>\.task\.classes: the label 'No Finding' belongs to both well and ill"),
        ("Mass", ("MASS",), r"'MASS' belongs to both task\.left_out and ill"),
    ],
)
def test_a_label_with_two_meanings(ill, left_out, message):
    with pytest.raises(UserError, match=message):
        LabelMap({"well": ("No Finding",), "ill": (ill,)}, left_out)


text = st.one_of(st.none(), st.sets(st.sampled_from([*VOCABULARY, "Hernia", "Rib"])).map("|".join))
tables = st.lists(st.tuples(text, text, text, text), max_size=12).map(
    lambda cells: pd.DataFrame(cells, columns=["labels", "uncertain", "unknown", "outvoted"]).astype("str")
)


@settings(max_examples=30)
@given(images=tables, uncertain=st.sampled_from(["unknown", "positive", "negative"]), exclusive=st.booleans())
def test_each_row_is_used_refused_or_left_out(images, uncertain, exclusive):
    label_map = LabelMap({**SEVERAL, "other": ("*",)}, ["Hernia"], uncertain, exclusive=exclusive)
    outcome = label_map.apply(images, (*VOCABULARY, "Hernia"))
    labels = outcome.filter(regex="^label_")
    used = labels.notna().any(axis=1)
    assert (used.astype(int) + outcome["reason"].notna() + outcome["left_out"].notna()).eq(1).all()
    assert labels[used].isin([0.0, 1.0]).where(labels[used].notna(), True).all(axis=None)
    if exclusive:
        assert labels[used].sum(axis=1).eq(1).all()
        assert labels[used].notna().all(axis=None)


@pytest.mark.parametrize(
    ("label", "listed"),
    [
        *((label, "No Finding") for label in ("No-Finding", "no finding", "NO_FINDING", "No\u00a0Finding")),
        *((label, "No Finding") for label in ("No \u2013 Finding", "N\uff4f Finding")),
        ("1.0", "1"),
        ("u\u0308bel", "\u00fcbel"),
        ("0", "0.00"),
    ],
)
def test_spellings_of_a_listed_label(label, listed):
    assert apply(LabelMap({"a": (listed,), "b": ("*",)}), label, vocabulary=(label,)) == [1.0, 0.0]


@pytest.mark.parametrize(("label", "listed"), [("-1", "1"), ("Effusion-", "Effusion+"), ("10", "1.0"), ("1-0", "10")])
def test_signs_and_digits_count(label, listed):
    assert LabelMap({"a": (listed,), "b": ("*",)}).class_of(label) != "a"


UNCLEAR = ["No Findings", "No Finding.", "No Fnding", "no findings (PA)", "Findings", "healthy", "normal", "None"]
NORMAL = ["within normal limits", "No acute disease", "unremarkable study"]


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("label", [*UNCLEAR, *NORMAL, "n/a", "unknown", "Mass;No Finding"])
def test_a_label_that_may_be_a_listed_one_is_neither_another_nor_a_negative(label, exclusive):
    expected = f"unknown_label: belongs to no class of the task: {label}"
    for classes in (STAR, {"none": ("No Finding",), "ill": ("Mass",)}):
        assert apply(LabelMap(classes, exclusive=exclusive), label, vocabulary=(label, "Mass")) == expected


def test_the_labels_of_public_releases_and_of_numbers_do_not_resemble_each_other():
    for vocabulary in (nih.LABELS, chexpert.LABELS, tuple(map(str, range(120))), ("Grade 1", "Grade 2", "Grade 3")):
        for listed in vocabulary:
            label_map = LabelMap({"one": (listed,), "rest": ("*",)})
            assert [label for label in vocabulary if label_map.class_of(label) != "rest"] == [listed]


@pytest.mark.parametrize(
    ("labels", "kind", "classes"),
    [
        (["1", "0", "1"], "binary", {"class_0": ["0"], "class_1": ["1"]}),
        (["Mass", "Edema", "Edema", "No Finding"], "multiclass", ["No Finding", "Edema", "Mass"]),
        (["Mass|Edema", "Normal", "Edema"], "multilabel", ["Edema", "Mass"]),
        (["Mass", "", ""], "multilabel", ["Mass"]),
        (
            ["Normal", "normal", "normal", "Mass", "MASS"],
            "binary",
            {"normal": ["normal", "Normal"], "Mass": ["Mass", "MASS"]},
        ),
        (["Mass|mass", "normal"], "binary", {"normal": ["normal"], "Mass": ["Mass", "mass"]}),
        (["sick", "well"], "binary", ["well", "sick"]),
        (["Befund", "Gesund"], "binary", ["Gesund", "Befund"]),
        (["a+b", "a-b", "é"], "multiclass", {"a_b": ["a+b"], "a-b": ["a-b"], "class_": ["é"]}),
    ],
)
def test_classes_follow_from_the_labels(labels, kind, classes):
    found = propose_classes(pd.Series(labels))
    assert found[:2] == (kind, classes if isinstance(classes, dict) else {name: [name] for name in classes})
    LabelMap(found[1], exclusive=kind != "multilabel")


@pytest.mark.parametrize(
    ("labels", "note"),
    [
        (["normal", "Effusion"] * 20, None),
        (["well", "sick"], None),
        (["unauffällig", "Befund"], None),
        (["bacterial", "viral"], "no class was recognised as the normal one. The last, viral, is the positive one."),
        (["Mass", "Mass", ""], None),
        (["Mass", "Mass"], "all images have the label Mass. A task needs images without it, too."),
        (
            [*(["normal", "effusion"] * 20), "efusion"],
            r"is efusion \(images: 1\) another spelling of effusion\? Then move",
        ),
        (["normal", "No Finding", "No Finding", "Mass"], r"is normal \(images: 1\) another spelling of No Finding\?"),
    ],
)
def test_doubts_about_the_classes_are_named(labels, note):
    notes = propose_classes(pd.Series(labels))[2]
    assert [bool(re.match(note or "", text)) for text in notes] == [True] * (note is not None)


def test_images_without_a_finding_are_no_task():
    with pytest.raises(UserError, match="No image has a finding"):
        propose_classes(pd.Series(["normal", None]))
