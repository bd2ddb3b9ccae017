import pickle

import pytest
from pydantic import ValidationError
from shipped import parameters_of

from cxr_pipeline.common.mappings import lay_over
from cxr_pipeline.data.sources.label_tables import Columns
from cxr_pipeline.data.sources.labels import LabelMap
from cxr_pipeline.framework import config


def block(name, /, **changes):
    """Return a block of parameters as it is shipped, with changes."""
    kind = config.Network if name == "model" else getattr(config, name.title())
    return kind.model_validate(lay_over(parameters_of()[name], changes))


SWAPPED = {"pixels": {"warn": 0.5, "refuse": 0.2}}


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("splitting", {"train": 0.7, "validation": 0.2, "test": 0.2}, "sum to 1"),
        ("splitting", {"train": 1.0, "validation": 0.0, "test": 0.0}, "sum to 1"),
        ("splitting", {"train": 0.9, "validation": 0.1, "test": 0.0}, "sum to 1"),
        ("morphology", {"steps": [{"operation": "denoise", "size": 4}]}, r"3, 5, 7, .* or 31"),
        ("subgroups", {"ages": (40, 18)}, "increasing"),
        ("subgroups", {"ages": (18, 18)}, "increasing"),
        ("drift", {"folder": "/new", "source": {"layout": "nih", "path": "x"}}, "either folder or source, found both"),
        ("drift", {"limits": SWAPPED}, "refuse must not be below warn"),
        ("drift", {"limits": {"pixel": {"warn": 0.1, "refuse": None}}}, "pixel"),
        ("retraining", {"floors": {"brier": 0.2}}, "brier"),
    ],
)
def test_an_invalid_value_is_refused(name, changes, message):
    with pytest.raises(ValidationError, match=message):
        block(name, **changes)


def test_floors_and_limits_can_be_switched_off():
    assert block("retraining", floors={"auc": None}).floors.keys() == {"sensitivity", "specificity"}
    assert block("drift", limits={"pixels": {"refuse": None}}).limits.pixels.refuse is None


def test_a_source_can_be_switched_off_and_its_layout_determines_its_keys():
    phantoms = {"layout": "phantoms", "path": "x", "n_patients": 5, "prevalence": {}}
    sources = config.Sources({"images": None, "phantoms": phantoms})
    assert list(sources.root) == ["phantoms"]
    assert sources.phantom
    assert pickle.loads(pickle.dumps(sources)) == sources
    with pytest.raises(ValidationError, match="at least one source"):
        config.Sources({"images": None})
    with pytest.raises(ValidationError, match="n_patients"):
        config.Sources({"images": phantoms | {"layout": "class_folders"}})


def task(kind, classes, **options):
    return config.Task(name="t", title="T", kind=kind, classes=classes, **options)


@pytest.mark.parametrize(
    ("kind", "outputs", "exclusive", "single_label"),
    [
        ("binary", ("ill",), False, True),
        ("multiclass", ("well", "ill", "worse"), True, True),
        ("multilabel", ("well", "ill", "worse"), False, False),
    ],
)
def test_the_kind_of_a_task_determines_its_outputs(kind, outputs, exclusive, single_label):
    classes = {"well": ("a",), "ill": ("b",), **({} if kind == "binary" else {"worse": ("c", "d")})}
    made = task(kind, {**classes, "switched off": None})
    assert (made.outputs, made.exclusive, made.single_label) == (outputs, exclusive, single_label)
    assert made.labels == LabelMap(classes, exclusive=single_label)


@pytest.mark.parametrize(
    ("kind", "classes", "message"),
    [
        ("binary", {"a": ("a",), "b": None}, "two classes, found 1: a"),
        ("binary", {}, "two classes, found 0: none"),
        ("multiclass", {"a": ("a",), "b": ("b",)}, "three classes or more, found 2: a, b"),
        ("multilabel", {}, "one class or more, found 0: none"),
        ("ordinal", {"a": ("a",), "b": ("b",)}, "'binary', 'multiclass' or 'multilabel'"),
        ("multilabel", {"a/b": ("a",)}, "should match pattern"),
        ("multilabel", {"Mass": ("a",), "none": ("b",)}, "'none' is reserved"),
        ("multiclass", {"a": ("a",), "mean": ("b",), "b": ("c",)}, "'mean' is reserved"),
        # An unquoted No in YAML.
        ("binary", {"well": [False], "ill": ["Yes"]}, "should be a valid string"),
    ],
)
def test_classes_that_do_not_fit_the_kind_are_refused(kind, classes, message):
    with pytest.raises(ValidationError, match=message):
        task(kind, classes)


def test_numbers_are_labels():
    made = task("binary", {"well": [0], "ill": [10_000_000, 2.5, "3"]}, left_out=[-1])
    assert (made.classes, made.left_out) == ({"well": ("0",), "ill": ("10000000", "2.5", "3")}, ("-1",))


def test_labels_can_be_left_out_and_uncertain_labels_interpreted():
    labels = task("multilabel", {"Mass": ("Mass",)}, left_out=("Hernia",), uncertain="positive").labels
    assert labels == LabelMap({"Mass": ("Mass",)}, ("Hernia",), "positive", exclusive=False)
    with pytest.raises(ValidationError, match="uncertain"):
        task("multilabel", {"Mass": ("Mass",)}, uncertain="maybe")


def test_labels_of_a_table_are_in_one_column_or_in_one_per_label():
    assert Columns(image="image", one_hot=("Mass",)).labels is None
    for both_or_neither in ({}, {"labels": "finding", "one_hot": ("Mass",)}):
        with pytest.raises(ValueError, match="either labels"):
            Columns(image="image", **both_or_neither)
