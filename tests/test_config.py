import pytest
from pydantic import ValidationError

from cxr_pipeline import config


def test_a_misspelt_key_names_itself() -> None:
    with pytest.raises(ValidationError, match="ignore_given_splits"):
        config.Splitting(train=0.7, validation=0.15, test=0.15, seed=1, ignore_given_splits=True)


def test_parameters_cannot_be_changed() -> None:
    step = config.Denoise(operation="denoise", size=3)
    with pytest.raises(ValidationError):
        step.size = 5


@pytest.mark.parametrize(("train", "validation", "test"), [(0.7, 0.2, 0.2), (1.0, 0.0, 0.0), (0.9, 0.1, 0.0)])
def test_shares_that_leave_a_split_empty_or_do_not_sum_to_one_are_refused(train, validation, test) -> None:
    with pytest.raises(ValidationError, match="sum to 1"):
        config.Splitting(train=train, validation=validation, test=test, seed=1)


def test_a_source_set_to_null_is_switched_off() -> None:
    sources = config.Sources(
        {"films": None, "drawn": {"layout": "phantoms", "path": "x", "n_patients": 5, "prevalence": {}}}
    )
    assert list(sources.root) == ["drawn"]
    assert sources.phantom


def test_a_task_without_sources_is_refused() -> None:
    with pytest.raises(ValidationError, match="at least one source"):
        config.Sources({"films": None})


def test_the_layout_decides_which_keys_a_source_has() -> None:
    with pytest.raises(ValidationError, match="n_patients"):
        config.Sources({"films": {"layout": "class_folders", "path": "x", "n_patients": 5, "prevalence": {}}})


def test_the_last_class_of_a_binary_task_is_the_positive_one() -> None:
    task = config.Task(name="t", title="T", kind="binary", classes={"well": ("a",), "ill": ("b",)})
    assert task.positive == "ill"
    with pytest.raises(ValidationError, match="two classes"):
        config.Task(name="t", title="T", kind="binary", classes={"well": ("a",)})


def test_an_even_median_is_refused() -> None:
    with pytest.raises(ValidationError, match="odd"):
        config.Morphology(steps=[{"operation": "denoise", "size": 4}])


def test_steps_keep_their_order() -> None:
    steps = [{"operation": "clahe"}, {"operation": "top_hat", "size": 9}]
    assert [step.operation for step in config.Morphology(steps=steps).steps] == ["clahe", "top_hat"]
