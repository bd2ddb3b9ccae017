import pandas as pd
import pytest
from pydantic import ValidationError

from cxr_pipeline.data.sources.label_tables import Columns
from cxr_pipeline.data.sources.labels import LabelMap
from cxr_pipeline.framework import config
from cxr_pipeline.training.networks.architectures import ARCHITECTURES


def test_a_misspelt_key_names_itself() -> None:
    with pytest.raises(ValidationError, match="ignore_given_splits"):
        config.Splitting(train=0.7, validation=0.15, test=0.15, seed=1, ignore_given_splits=True)


def test_parameters_cannot_be_changed() -> None:
    (step,) = config.Morphology(steps=[{"operation": "denoise", "size": 3}]).steps
    with pytest.raises(ValidationError):
        step.size = 5


@pytest.mark.parametrize(("train", "validation", "test"), [(0.7, 0.2, 0.2), (1.0, 0.0, 0.0), (0.9, 0.1, 0.0)])
def test_shares_that_leave_a_split_empty_or_do_not_sum_to_one_are_refused(train, validation, test) -> None:
    with pytest.raises(ValidationError, match="sum to 1"):
        config.Splitting(train=train, validation=validation, test=test, seed=1)


def test_a_source_set_to_null_is_switched_off() -> None:
    sources = config.Sources(
        {"images": None, "drawn": {"layout": "phantoms", "path": "x", "n_patients": 5, "prevalence": {}}}
    )
    assert list(sources.root) == ["drawn"]
    assert sources.phantom


def test_a_task_without_sources_is_refused() -> None:
    with pytest.raises(ValidationError, match="at least one source"):
        config.Sources({"images": None})


def test_the_layout_decides_which_keys_a_source_has() -> None:
    with pytest.raises(ValidationError, match="n_patients"):
        config.Sources({"images": {"layout": "class_folders", "path": "x", "n_patients": 5, "prevalence": {}}})


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
def test_the_kind_says_what_a_model_gives_scores_for(kind, outputs, exclusive, single_label) -> None:
    classes = {"well": ("a",), "ill": ("b",), **({} if kind == "binary" else {"worse": ("c", "d")})}
    asked = task(kind, **classes)
    assert (asked.outputs, asked.exclusive, asked.single_label) == (outputs, exclusive, single_label)
    assert asked.labels == LabelMap(classes, exclusive=single_label)


@pytest.mark.parametrize(
    ("kind", "classes", "message"),
    [
        ("binary", ["a"], "two classes, found 1: a"),
        ("binary", ["a", "b", "c"], "two classes, found 3: a, b, c"),
        ("binary", [], "two classes, found 0: none"),
        ("multiclass", ["a", "b"], "three classes or more, found 2: a, b"),
        ("multilabel", [], "a task has classes, found none"),
        ("ordinal", ["a", "b"], "'binary', 'multiclass' or 'multilabel'"),
        ("multilabel", ["1st"], "should match pattern"),
        ("multilabel", ["a/b"], "should match pattern"),
        ("multilabel", ["Mass", "none"], "'none' is reserved"),
        ("multiclass", ["a", "mean", "b"], "'mean' is reserved"),
    ],
)
def test_classes_that_do_not_fit_the_kind_are_refused(kind, classes, message) -> None:
    with pytest.raises(ValidationError, match=message):
        task(kind, **{name: (name,) for name in classes})


def test_one_label_alone_may_be_asked_for() -> None:
    assert task("multilabel", Mass=("Mass",)).outputs == ("Mass",)


def test_a_class_set_to_null_is_switched_off() -> None:
    asked = task("multiclass", No_Finding=("No Finding",), Hernia=None, Mass=("Mass",), Nodule=("Nodule",))
    assert asked.outputs == ("No_Finding", "Mass", "Nodule")
    assert "Hernia" not in asked.labels.classes
    with pytest.raises(ValidationError, match="two classes, found 1: well"):
        task("binary", well=("a",), ill=None)


def test_a_star_stands_for_the_labels_that_no_class_names() -> None:
    asked = task("binary", normal=("No Finding",), abnormal=("abnormal", "*"))
    images = pd.DataFrame({"labels": ["No Finding", "Mass|Nodule", "abnormal"], "uncertain": None, "unknown": None})
    found = asked.labels.apply(images, ("No Finding", "Mass", "Nodule", "abnormal"))
    assert found["label_abnormal"].tolist() == [0, 1, 1]


def test_labels_may_be_left_out_and_uncertain_ones_be_read() -> None:
    asked = config.Task(
        name="t", title="T", kind="multilabel", classes={"Mass": ("Mass",)}, left_out=("Hernia",), uncertain="positive"
    )
    assert asked.labels == LabelMap({"Mass": ("Mass",)}, ("Hernia",), "positive", exclusive=False)
    with pytest.raises(ValidationError, match="uncertain"):
        config.Task(name="t", title="T", kind="multilabel", classes={"Mass": ("Mass",)}, uncertain="maybe")


def test_a_misspelt_network_is_told_what_it_may_have_meant() -> None:
    more = {"weights": "none", "head_units": 0, "dropout": 0, "pooling": "average"}
    with pytest.raises(ValidationError, match=r"found 'densnet121' \(did you mean 'densenet121'\?\)"):
        config.Network(name="densnet121", **more)
    with pytest.raises(ValidationError, match=r"expected one of small_cnn, .*, found 'x'\s"):
        config.Network(name="x", **more)
    assert [config.Network(name=name, **more).name for name in ARCHITECTURES] == list(ARCHITECTURES)


def test_policies_may_be_compared() -> None:
    policies = [{"rule": "fixed", "value": 0.3}, {"rule": "argmax"}]
    thresholds = config.Thresholds(calibration="none", policy={"rule": "youden"}, compared=policies)
    assert [policy.model_dump() for policy in thresholds.compared] == policies
    assert config.Thresholds(calibration="none", policy={"rule": "youden"}).compared == ()
    with pytest.raises(ValidationError, match=r"compared\.0\.fixed\.value"):
        config.Thresholds(calibration="none", policy={"rule": "youden"}, compared=[{"rule": "fixed"}])


def test_labels_of_a_table_are_in_one_column_or_in_one_each() -> None:
    assert Columns(image="image", one_hot=("Mass",)).labels is None
    for both_or_neither in ({}, {"labels": "finding", "one_hot": ("Mass",)}):
        with pytest.raises(ValueError, match="either labels"):
            Columns(image="image", **both_or_neither)


def test_an_even_median_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"3, 5, 7, .* or 31"):
        config.Morphology(steps=[{"operation": "denoise", "size": 4}])


def test_steps_keep_their_order() -> None:
    steps = [{"operation": "clahe"}, {"operation": "top_hat", "size": 9}]
    assert [step.operation for step in config.Morphology(steps=steps).steps] == ["clahe", "top_hat"]


@pytest.mark.parametrize("ages", [(40, 18), (18, 18), (0,)])
def test_age_bands_begin_at_rising_ages(ages) -> None:
    assert config.Subgroups(ages=(18, 65), min_patients=10).ages == (18, 65)
    with pytest.raises(ValidationError):
        config.Subgroups(ages=ages, min_patients=10)
