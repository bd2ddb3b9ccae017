import pytest
from pydantic import ValidationError

from cxr_pipeline.config.experiments import Ablation, Parallel, check_cells, check_overrides
from cxr_pipeline.errors import UserError

MODEL = {"name": "small_cnn", "weights": "none", "head_units": 0, "dropout": 0.3, "pooling": "average"}
PARAMETERS = {"model": MODEL, "resampling": {"plan": "none", "class_weights": False, "max_repeat": None, "seed": 1}}
PARAMETERS["resampling"]["within_sources"] = False


def ablation(**changes) -> Ablation:
    return Ablation(**{"baseline": None, "common": {}, "cells": {}, "grid": {}} | changes)


def test_the_baseline_comes_first_and_what_is_common_lies_under_every_cell() -> None:
    found = ablation(
        baseline="b",
        common={"model": {"dropout": 0.1, "head_units": 8}},
        cells={"a": {"model": {"dropout": 0.5}}, "b": {}, "off": None},
    ).overrides()
    assert found == {
        "b": {"model": {"dropout": 0.1, "head_units": 8}},
        "a": {"model": {"dropout": 0.5, "head_units": 8}},
    }
    assert list(found) == ["b", "a"]


def test_cells_and_a_grid_can_stand_together_and_a_null_switches_either_off() -> None:
    grid = {"dropout": {"low": {"model": {"dropout": 0.1}}, "high": {"model": {"dropout": 0.6}}, "none": None}}
    assert list(ablation(cells={"a": {}}, grid=grid).overrides()) == ["a", "low", "high"]
    assert list(ablation(cells=None, grid=grid).overrides()) == ["low", "high"]
    assert list(ablation(cells={"a": {}}, grid=None).overrides()) == ["a"]
    assert list(ablation(cells={"a": {}}, grid={"dropout": None}).overrides()) == ["a"]


@pytest.mark.parametrize("name", ["../up", "", " a", "a/b", "<b>", "x" * 61])
def test_a_name_that_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        ablation(cells={name: {}})


def test_no_cells_are_no_ablation() -> None:
    with pytest.raises(UserError, match=r"^t\.ablation has no cells to run\. Name some under t\.ablation\.cells"):
        check_cells("t", PARAMETERS, ablation(cells=None, grid=None))


def test_a_baseline_must_be_a_cell() -> None:
    with pytest.raises(UserError, match=r"t\.ablation\.baseline: expected one of the cells a, found 'b'"):
        check_cells("t", PARAMETERS, ablation(cells={"a": {}}, baseline="b"))


def test_the_network_of_each_cell_is_known_before_any_work() -> None:
    cells = {"a": {}, "b": {"model": {"name": "vgg16"}}}
    assert [model.name for model in check_cells("t", PARAMETERS, ablation(cells=cells))] == ["small_cnn", "vgg16"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"modle": {}}, r"here: expected parameters below .*model.*, found 'modle'"),
        ({"model": {"dropuot": 0.1}}, r"here: model\.dropuot: Extra inputs are not permitted, found 0\.1"),
        ({"model": {"dropout": 1.5}}, r"here: model\.dropout: Input should be less than 1, found 1\.5"),
        ({"resampling": {"plan": "twice"}}, r"here: resampling\.plan"),
    ],
)
def test_overrides_that_are_no_parameters_are_named(overrides: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_overrides("here", PARAMETERS, overrides)


@pytest.mark.parametrize("change", [{"workers": 0}, {"memory_gb": 0}, {"cores": 3}])
def test_parallel_work_needs_workers_and_memory(change: dict) -> None:
    with pytest.raises(ValidationError):
        Parallel(**{"scheduler": None, "workers": None, "memory_gb": 2} | change)
