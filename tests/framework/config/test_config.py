import pickle

import pytest
from pydantic import ValidationError

from cxr_pipeline.data.sources.label_tables import Columns
from cxr_pipeline.data.sources.labels import LabelMap
from cxr_pipeline.framework import config
from cxr_pipeline.training.networks.architectures import ARCHITECTURES


@pytest.mark.parametrize(("train", "validation", "test"), [(0.7, 0.2, 0.2), (1.0, 0.0, 0.0), (0.9, 0.1, 0.0)])
def test_shares_that_leave_a_split_empty_or_do_not_sum_to_one_are_refused(train, validation, test) -> None:
    with pytest.raises(ValidationError, match="sum to 1"):
        config.Splitting(train=train, validation=validation, test=test, seed=1)


def test_a_source_can_be_switched_off_and_its_layout_determines_its_keys() -> None:
    phantoms = {"layout": "phantoms", "path": "x", "n_patients": 5, "prevalence": {}}
    sources = config.Sources({"images": None, "phantoms": phantoms})
    assert list(sources.root) == ["phantoms"]
    assert sources.phantom
    assert pickle.loads(pickle.dumps(sources)) == sources
    with pytest.raises(ValidationError, match="at least one source"):
        config.Sources({"images": None})
    with pytest.raises(ValidationError, match="n_patients"):
        config.Sources({"images": phantoms | {"layout": "class_folders"}})


def task(kind: str, **classes: object) -> config.Task:
    return config.Task(name="t", title="T", kind=kind, classes=classes)


@pytest.mark.parametrize(
    ("kind", "outputs", "exclusive", "single_label"),
    [
        ("binary", ("ill",), False, True),
        ("multiclass", ("well", "ill", "worse"), True, True),
        ("multilabel", ("well", "ill", "worse"), False, False),
    ],
)
def test_the_kind_of_a_task_determines_its_outputs(kind, outputs, exclusive, single_label) -> None:
    classes = {"well": ("a",), "ill": ("b",), **({} if kind == "binary" else {"worse": ("c", "d")})}
    made = task(kind, **classes)
    assert (made.outputs, made.exclusive, made.single_label) == (outputs, exclusive, single_label)
    assert made.labels == LabelMap(classes, exclusive=single_label)


@pytest.mark.parametrize(
    ("kind", "classes", "message"),
    [
        ("binary", ["a"], "two classes, found 1: a"),
        ("binary", [], "two classes, found 0: none"),
        ("multiclass", ["a", "b"], "three classes or more, found 2: a, b"),
        ("multilabel", [], "a task has classes, found none"),
        ("ordinal", ["a", "b"], "'binary', 'multiclass' or 'multilabel'"),
        ("multilabel", ["a/b"], "should match pattern"),
        ("multilabel", ["Mass", "none"], "'none' is reserved"),
        ("multiclass", ["a", "mean", "b"], "'mean' is reserved"),
    ],
)
def test_classes_that_do_not_fit_the_kind_are_refused(kind, classes, message) -> None:
    with pytest.raises(ValidationError, match=message):
        task(kind, **{name: (name,) for name in classes})


def test_a_class_set_to_null_is_switched_off() -> None:
    made = task("multiclass", No_Finding=("No Finding",), Hernia=None, Mass=("Mass",), Nodule=("Nodule",))
    assert made.outputs == ("No_Finding", "Mass", "Nodule")
    assert "Hernia" not in made.labels.classes
    with pytest.raises(ValidationError, match="two classes, found 1: well"):
        task("binary", well=("a",), ill=None)


def test_labels_can_be_left_out_and_uncertain_labels_interpreted() -> None:
    mass = {"name": "t", "title": "T", "kind": "multilabel", "classes": {"Mass": ("Mass",)}}
    labels = config.Task(**mass, left_out=("Hernia",), uncertain="positive").labels
    assert labels == LabelMap({"Mass": ("Mass",)}, ("Hernia",), "positive", exclusive=False)
    with pytest.raises(ValidationError, match="uncertain"):
        config.Task(**mass, uncertain="maybe")


def test_labels_of_a_table_are_in_one_column_or_in_one_per_label() -> None:
    assert Columns(image="image", one_hot=("Mass",)).labels is None
    for both_or_neither in ({}, {"labels": "finding", "one_hot": ("Mass",)}):
        with pytest.raises(ValueError, match="either labels"):
            Columns(image="image", **both_or_neither)


def test_an_even_median_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"3, 5, 7, .* or 31"):
        config.Morphology(steps=[{"operation": "denoise", "size": 4}])


def test_every_architecture_is_accepted() -> None:
    rest = {"weights": "none", "head_units": 0, "dropout": 0, "pooling": "average"}
    assert [config.Network(name=name, **rest).name for name in ARCHITECTURES] == list(ARCHITECTURES)


@pytest.mark.parametrize("ages", [(40, 18), (18, 18), (0,)])
def test_age_bands_start_at_increasing_ages(ages) -> None:
    assert config.Subgroups(ages=(18, 65), min_patients=10).ages == (18, 65)
    with pytest.raises(ValidationError):
        config.Subgroups(ages=ages, min_patients=10)
