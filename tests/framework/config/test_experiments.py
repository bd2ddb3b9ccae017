import pytest
from pydantic import ValidationError
from shipped import parameters_of

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.common.mappings import lay_over
from cxr_pipeline.framework.config import Tuning
from cxr_pipeline.framework.config.experiments import Ablation, check_cells, check_overrides
from cxr_pipeline.framework.invalid_parameters import PYDANTIC_ERROR

PARAMETERS = parameters_of()


def ablation(**changes):
    return Ablation(**{"baseline": None, "common": {}, "cells": {}, "grid": {}} | changes)


def test_the_baseline_comes_first_and_every_cell_overrides_the_common_parameters():
    overrides = ablation(
        baseline="b",
        common={"model": {"dropout": 0.1, "head_units": 8}},
        cells={"a": {"model": {"dropout": 0.5}}, "b": {}, "off": None},
    ).overrides()
    assert overrides == {
        "b": {"model": {"dropout": 0.1, "head_units": 8}},
        "a": {"model": {"dropout": 0.5, "head_units": 8}},
    }
    assert list(overrides) == ["b", "a"]


def test_cells_and_a_grid_can_be_combined_and_switched_off():
    grid = {"dropout": {"low": {"model": {"dropout": 0.1}}, "high": {"model": {"dropout": 0.6}}, "none": None}}
    assert list(ablation(cells={"a": {}}, grid=grid).overrides()) == ["a", "low", "high"]
    assert list(ablation(cells=None, grid=grid).overrides()) == ["low", "high"]
    assert list(ablation(cells={"a": {}}, grid=None).overrides()) == ["a"]
    assert list(ablation(cells={"a": {}}, grid={"dropout": None}).overrides()) == ["a"]
    assert list(ablation(grid={**grid, "loss": {"focal": None}}).overrides()) == ["low", "high"]
    assert list(ablation(cells={"a": {}}, grid={"loss": {"focal": None}}).overrides()) == ["a"]
    assert list(ablation(cells={"a": {}, "low": None}, grid=grid).overrides()) == ["a", "low", "high"]
    with pytest.raises(ValidationError, match=r"cells and grid both have a cell named 'low'; rename"):
        ablation(cells={"a": {}, "low": {}}, grid=grid)


@pytest.mark.parametrize("name", ["../up", "", " a", "a/b", "<b>", "x" * 61])
def test_an_invalid_name_is_refused(name):
    for cells in ({"cells": {name: {}}}, {"grid": {name: {"a": {}}}}):
        with pytest.raises(ValidationError):
            ablation(**cells)


def test_an_ablation_needs_cells_and_its_baseline_must_be_one():
    with pytest.raises(UserError, match=r"^t\.ablation has no cells\. Add some to t\.ablation\.cells"):
        check_cells("t", PARAMETERS, ablation(cells=None, grid=None))
    with pytest.raises(UserError, match=r"t\.ablation\.baseline: expected one of the cells a, found 'b'"):
        check_cells("t", PARAMETERS, ablation(cells={"a": {}}, baseline="b"))


def test_the_parameters_of_each_cell_are_validated():
    common = {"thresholds": {"policy": {"rule": "argmax"}}}
    blocks_of = check_cells(
        "t", PARAMETERS, ablation(cells={"a": {}, "b": {"model": {"name": "vgg16"}}}, common=common)
    )
    assert {where: blocks.model.name for where, blocks in blocks_of.items()} == {
        "t.ablation, cell 'a'": "densenet121",
        "t.ablation, cell 'b'": "vgg16",
    }
    assert all(blocks.thresholds.policy.rule == "argmax" for blocks in blocks_of.values())
    parameters = lay_over(PARAMETERS, {"training": {"epoch": 3}})
    with pytest.raises(UserError, match=r"^t: training\.epoch: Extra inputs are not permitted, found 3"):
        check_cells("t", parameters, ablation(cells={"a": {}}))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"modle": {}}, r"here: expected parameters below .*model.*, found 'modle'"),
        ({"model": {"dropuot": 0.1}}, r"here: model\.dropuot: Extra inputs are not permitted, found 0\.1"),
        ({"model": {"dropout": 1.5}}, r"here: model\.dropout: Input should be less than 1, found 1\.5"),
        ({"resampling": {"plan": "twice"}}, r"here: resampling\.plan"),
        ({"training": None}, r"here: training: expected parameters and their values, found None\. Add the"),
        ({"training": {"fine_tuning": None}}, r"here: training\.fine_tuning: Input should be .*, found None"),
    ],
)
def test_invalid_overrides_are_reported(overrides, message):
    with pytest.raises(UserError, match=message):
        check_overrides("here", PARAMETERS, overrides)


def tuning(space, **changed):
    values = {
        "n_trials": 3,
        "folds": 1,
        "storage": None,
        "seed": 1,
        "pruner": {"name": "median"},
        "space": space,
        **changed,
    }
    return Tuning(**values)


def test_a_nested_space_gets_dotted_names_and_values_of_the_type_of_their_field():
    space = {
        "model": {"dropout": {"low": 0, "high": 0.6}, "head_units": {"low": 0, "high": 256, "step": 64}},
        "training": {
            "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
            "fine_tuning": {"cut": {"choices": [None, "pool4_pool"]}, "learning_rate": None},
            "patience": {"choices": [None, 5]},
            "loss": {"choices": ["focal"]},
        },
        "augmentation": {"flip": {"choices": [True, False]}},
        "resampling": None,
    }
    flat = tuning(space).space
    assert flat == {
        "model.dropout": {"low": 0.0, "high": 0.6},
        "model.head_units": {"low": 0, "high": 256, "step": 64},
        "training.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
        "training.fine_tuning.cut": {"choices": [None, "pool4_pool"]},
        "training.patience": {"choices": [None, 5]},
        "training.loss": {"choices": ["focal"]},
        "augmentation.flip": {"choices": [True, False]},
    }
    assert type(flat["model.dropout"]["low"]) is float
    assert type(flat["model.head_units"]["low"]) is int
    assert tuning({"model.dropout": {"low": 0, "high": 0.6}}).space == {"model.dropout": {"low": 0.0, "high": 0.6}}


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"training": {"learning_rat": {"low": 1, "high": 2}}},
         "no parameter training.learning_rat can be searched over (did you mean training.learning_rate?)"),
        ({"qqq": {"low": 1, "high": 2}}, "no parameter qqq can be searched over; expected one of model.name, "),
        ({"training": {"monitor": {"choices": ["val_auc"]}}}, "training.monitor defines the value of a trial"),
        ({"model": {"dropout": {"low": 0.5, "high": 0.5}}}, "model.dropout: expected low below high, found low 0.5"),
        ({"model": {"dropout": {"low": 0, "high": 1}}}, "model.dropout: should be less than 1, found 1"),
        ({"model": {"dropout": {"low": 0, "high": 0.5, "log": True}}}, "low above 0 if it is true"),
        ({"model": {"dropout": {"low": 0.1}}}, "expected low and high, optionally log or step, or choices; found {"),
        ({"model": {"dropout": {"low": 0.1, "high": float("nan")}}}, "model.dropout: "),
        ({"model": {"head_units": {"low": 0.5, "high": 64}}}, "should be a valid integer"),
        ({"model": {"head_units": {"low": 0, "high": 64, "step": 6.4}}}, "expected step to be an integer above 0"),
        ({"model": {"head_units": {"low": 0, "high": 64, "step": 65}}}, "at most high - low, found 65"),
        ({"augmentation": {"flip": {"low": 0, "high": 1}}}, "expected numbers for low and high, found 0; use choices"),
        ({"training": {"loss": {"choices": ["focal", "hinge"]}}}, "found 'hinge'"),
        ({"model": {"name": {"choices": ["densenet"]}}}, "(did you mean 'densenet121'?)"),
        ({"training": {"loss": {"choices": []}}}, "training.loss: expected a list of choices, found []"),
        ({"training": {"loss": {"choices": ["focal", "focal"]}}}, "expected distinct choices"),
        ({"morphology": {"steps": {"choices": [[]]}}}, "expected choices that are numbers, text, true, false or null"),
        ({"training": {"loss": None}}, "expected at least one parameter to search over, found none"),
    ],
)  # fmt: skip
def test_an_invalid_space_is_reported(space, message):
    with pytest.raises(ValidationError) as caught:
        tuning(space)
    ((place, text, *_),) = PYDANTIC_ERROR.findall(str(caught.value))
    assert place == "space"
    assert message in text


def test_the_url_of_the_database_is_hidden():
    made = tuning({"model": {"dropout": {"low": 0, "high": 0.5}}}, storage="postgresql://me:secret@host/studies")
    assert "secret" not in f"{made!r}{made.model_dump(mode='json')}"
    assert made.storage.get_secret_value() == "postgresql://me:secret@host/studies"
