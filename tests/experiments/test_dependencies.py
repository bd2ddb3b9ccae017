from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_pipeline.common.mappings import lay_over
from cxr_pipeline.experiments import cells, dependencies
from cxr_pipeline.experiments.digests import training_digest

PARAMETERS: dict[str, Any] = {
    "task": {"name": "effusion", "title": "Effusion"},
    "resolution": {"size": 64, "mode": "fit", "workers": None},
    "morphology": {"steps": []},
    "augmentation": {"rotation": 7, "views": 2, "seed": 1},
    "resampling": {"plan": "oversample"},
    "model": {"name": "vgg16", "weights": "imagenet", "dropout": 0.3, "head_units": 0, "pooling": "average"},
    "training": {
        "loss": "focal",
        "monitor": "val_auc",
        "fine_tuning": {"cut": None, "epochs": 0},
    },
    "thresholds": {"calibration": "platt"},
    "evaluation": {"replicates": 2000},
    "ablation": {"cells": {}},
    "tuning": {"n_trials": 3},
}
FINE_TUNED = {"training": {"fine_tuning": {"epochs": 4}}}
FROM_SCRATCH = {"model": {"name": "small_cnn"}}
TWELVE = cells.cross(
    {
        "backbone": {name: {"model": {"name": name}} for name in ("vgg16", "resnet50", "inceptionv3")},
        "augmentation": {"augmented": {}, "not augmented": {"augmentation": {"views": 0}}},
        "epoch": {name: {"training": {"monitor": f"val_{name}"}} for name in ("accuracy", "recall")},
    }
)


def waits_of(overrides: dict[str, dict[str, Any]], below: dict[str, Any] | None = None) -> dict[str, str | None]:
    whole = {name: lay_over(lay_over(PARAMETERS, below or {}), changes) for name, changes in overrides.items()}
    return dependencies.waits(whole, {name: training_digest(parameters) for name, parameters in whole.items()})


def test_twelve_models_are_six_trainings_that_wait_for_none_and_six_that_find_theirs_done() -> None:
    found = waits_of(TWELVE)
    assert list(found) == sorted(found, key=lambda name: found[name] is not None)
    assert {name: before for name, before in found.items() if before} == {
        name: name.replace("recall", "accuracy") for name in TWELVE if name.endswith("recall")
    }


def test_cells_wait_for_the_first_that_computes_their_features_and_start_after_all_firsts() -> None:
    overrides = {
        "baseline": {},
        "without resampling": {"resampling": {"plan": "none"}},
        "dropout": {"model": {"dropout": 0.5}},
        "hidden": {"model": {"head_units": 64}, "resolution": {"workers": 2}},
        "not augmented": {"augmentation": {"views": 0}},
        "larger": {"resolution": {"size": 128}},
        "larger, another loss": {"resolution": {"size": 128}, "training": {"loss": "cross_entropy"}},
        "pooled otherwise": {"model": {"pooling": "multilevel"}},
    }
    assert list(waits_of(overrides).items()) == [
        ("baseline", None),
        ("larger", None),
        ("not augmented", None),
        ("pooled otherwise", None),
        ("without resampling", "baseline"),
        ("dropout", "baseline"),
        ("hidden", "baseline"),
        ("larger, another loss", "larger"),
    ]


@pytest.mark.parametrize("below", [FROM_SCRATCH, {"model": {"weights": "none"}}], ids=["small network", "no weights"])
def test_nothing_waits_where_no_features_are_cached(below: dict[str, Any]) -> None:
    rates = {f"{rate}": {"training": {"learning_rate": rate}} for rate in (0.1, 0.01, 0.001)}
    assert set(waits_of(rates, below).values()) == {None}


def test_without_augmented_views_their_strength_does_not_matter() -> None:
    overrides = {"weak": {"augmentation": {"rotation": 1}}, "strong": {"augmentation": {"rotation": 9}}}
    assert waits_of(overrides) == {"weak": None, "strong": None}
    assert waits_of(overrides, {"augmentation": {"views": 0}, "training": {"seed": 1}}) == {
        "weak": None,
        "strong": "weak",
    }


def test_a_head_alone_waits_for_the_cell_that_also_keeps_activations_at_the_cut() -> None:
    found = waits_of({"head": {}, "fine-tuned": FINE_TUNED, "fine-tuned elsewhere": lay_over(FINE_TUNED, {"x": 1})})
    assert found == {"fine-tuned": None, "head": "fine-tuned", "fine-tuned elsewhere": "fine-tuned"}


@pytest.mark.parametrize("below", [{}, FINE_TUNED, FROM_SCRATCH], ids=["head", "fine-tuned", "from scratch"])
def test_cells_that_differ_in_decisions_alone_are_one_training(below: dict[str, Any]) -> None:
    overrides = {
        "a": {},
        "threshold": {"thresholds": {"calibration": "none"}},
        "replicates": {"evaluation": {"replicates": 9}},
        "title": {"task": {"title": "Another"}},
    }
    assert waits_of(overrides, below) == {"a": None, "threshold": "a", "replicates": "a", "title": "a"}


@pytest.mark.parametrize(
    ("below", "shared"),
    [({}, True), (FROM_SCRATCH, True), (FINE_TUNED, False), (lay_over(FINE_TUNED, FROM_SCRATCH), True)],
)
def test_other_choices_of_the_epoch_come_out_of_a_training_of_one_phase(below: dict[str, Any], shared: bool) -> None:
    a, b = (
        training_digest(lay_over(lay_over(PARAMETERS, below), {"training": {"monitor": monitor}}))
        for monitor in ("val_auc", "val_recall")
    )
    assert (a == b) is shared


CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "resolution": st.sampled_from([{"size": 64}, {"size": 128}]),
        "augmentation": st.sampled_from([{"views": 0}, {"rotation": 1}]),
        "model": st.sampled_from([{"name": "small_cnn"}, {"name": "resnet50"}, {"dropout": 0.1}, {"weights": "none"}]),
        "training": st.sampled_from(
            [{"loss": "x"}, {"monitor": "val_recall"}, FINE_TUNED["training"], {"fine_tuning": {"cut": "x"}}]
        ),
        "thresholds": st.just({"calibration": "none"}),
    },
)


@settings(max_examples=300)
@given(st.lists(CHANGES, min_size=1, max_size=9))
def test_no_training_and_no_features_are_computed_twice_and_nobody_else_waits(changes: list[dict[str, Any]]) -> None:
    whole = {str(place): lay_over(PARAMETERS, one) for place, one in enumerate(changes)}
    trainings = {name: training_digest(parameters) for name, parameters in whole.items()}
    found = dependencies.waits(whole, trainings)
    assert sorted(found) == sorted(whole)
    done: set[str | None] = {None}
    have: set[Any] = set()
    while len(done) <= len(whole):
        ready = [name for name, before in found.items() if name not in done and before in done]
        assert ready
        needs = [{("training", trainings[name]), *cached(whole[name])} for name in ready]
        for name, needed in zip(ready, needs, strict=True):
            assert found[name] is None or needed & have, f"{name} waited for nothing that it shares"
        new = [one for needed in needs for one in needed - have]
        assert len(new) == len(set(new)), "two compute the same at the same time"
        have.update(new)
        done.update(ready)


def cached(parameters: dict[str, Any]) -> set[Any]:
    """The features that a cell caches, told without the code under test."""
    model, fine_tuning = parameters["model"], parameters["training"]["fine_tuning"]
    if model["name"] == "small_cnn" or model["weights"] == "none":
        return set()
    views = tuple(parameters["augmentation"].values()) if parameters["augmentation"]["views"] else None
    key = (parameters["resolution"]["size"], views, model["name"], fine_tuning["cut"])
    return {("pooled", key), *([("cut", key)] if fine_tuning["epochs"] else [])}


def test_checkpoints_of_other_trainings_are_forgotten(tmp_path: Path) -> None:
    for name in ("old", "kept", "older"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "state.npz").touch()
    dependencies.forget_others({tmp_path / "kept", tmp_path / "new"})
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.npz")] == ["kept/state.npz"]
