import itertools
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_pipeline.experiments import cells
from cxr_pipeline.experiments.cells import Launch
from cxr_pipeline.nesting import lay_over
from cxr_pipeline.splits import assign_splits

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
        "companions": [],
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


def test_a_grid_has_every_combination_once() -> None:
    assert len(TWELVE) == 12
    assert TWELVE["resnet50, not augmented, recall"] == {
        "model": {"name": "resnet50"},
        "augmentation": {"views": 0},
        "training": {"monitor": "val_recall"},
    }
    assert list(TWELVE)[:2] == ["vgg16, augmented, accuracy", "vgg16, augmented, recall"]


@given(st.dictionaries(st.sampled_from("abc"), st.lists(st.sampled_from("pqr"), min_size=1, unique=True), max_size=3))
def test_the_size_of_a_grid_is_the_product_of_its_factors(factors: dict[str, list[str]]) -> None:
    grid = cells.cross({name: {level: {name: level} for level in levels} for name, levels in factors.items()})
    assert list(grid.values()) == [
        dict(zip(factors, levels, strict=True)) for levels in itertools.product(*factors.values())
    ]


def waits_of(overrides: dict[str, dict[str, Any]], below: dict[str, Any] | None = None) -> dict[str, str | None]:
    whole = {name: lay_over(lay_over(PARAMETERS, below or {}), changes) for name, changes in overrides.items()}
    return cells.waits(whole, {name: cells.training_digest(parameters) for name, parameters in whole.items()})


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
        cells.training_digest(lay_over(lay_over(PARAMETERS, below), {"training": {"monitor": monitor}}))
        for monitor in ("val_auc", "val_recall")
    )
    assert (a == b) is shared


def test_companions_are_the_metrics_of_a_training_each_once() -> None:
    monitors = {"a": "val_recall", "b": "val_auc", "c": "val_recall", "d": "val_loss"}
    whole = {name: lay_over(PARAMETERS, {"training": {"monitor": monitor}}) for name, monitor in monitors.items()}
    both = ["val_auc", "val_recall"]
    found = cells.companions(whole, {"a": 1, "b": 1, "c": 1, "d": 2})
    assert found == {"a": both, "b": both, "c": both, "d": ["val_loss"]}


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
    trainings = {name: cells.training_digest(parameters) for name, parameters in whole.items()}
    found = cells.waits(whole, trainings)
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
    cells.forget_others({tmp_path / "kept", tmp_path / "new"})
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.npz")] == ["kept/state.npz"]


def test_what_decides_a_result_decides_the_digest() -> None:
    digest = cells.digest(PARAMETERS, data="x")
    assert digest == cells.digest(dict(reversed(PARAMETERS.items())), data="x")
    blocks = [block for block in PARAMETERS if block not in cells.IDLE]
    others = [
        cells.digest(PARAMETERS, data="y"),
        cells.digest(PARAMETERS, data="x", splits="z"),
        *(cells.digest(lay_over(PARAMETERS, {block: {"new": 1}}), data="x") for block in blocks),
    ]
    assert len({digest, *others}) == 1 + len(others)


@pytest.mark.parametrize(
    "idle",
    [
        {"ablation": {"cells": {"more": {}}}},
        {"tuning": {"n_trials": 9}},
        {"task": {"title": "Another title"}},
        {"resolution": {"workers": 3}},
        {"training": {"companions": ["val_loss"]}},
    ],
)
def test_what_changes_no_result_does_not_count(idle: dict[str, Any]) -> None:
    assert cells.digest(lay_over(PARAMETERS, idle)) == cells.digest(PARAMETERS)


def test_what_comes_after_training_can_be_left_out() -> None:
    changed = lay_over(PARAMETERS, {"thresholds": {"calibration": "none"}, "evaluation": {"replicates": 500}})
    before, after = (cells.digest(one, idle=cells.AFTER_TRAINING) for one in (PARAMETERS, changed))
    assert before == after != cells.digest(PARAMETERS)


@pytest.mark.parametrize(
    "changed",
    [
        "cxr_pipeline.__version__",
        "cxr_pipeline.images.recipe.VERSION",
        "cxr_pipeline.training.versions.FITTING",
        "cxr_pipeline.training.versions.FEATURES",
    ],
)
def test_another_version_of_the_code_runs_cells_again(monkeypatch: pytest.MonkeyPatch, changed: str) -> None:
    before = cells.digest(PARAMETERS), cells.training_digest(PARAMETERS)
    monkeypatch.setattr(changed, 99)
    after = cells.digest(PARAMETERS), cells.training_digest(PARAMETERS)
    assert not set(before) & set(after)


@pytest.mark.parametrize("library", ["keras", "tensorflow"])
def test_another_version_of_a_library_that_trains_runs_cells_again(
    monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    before = cells.digest(PARAMETERS)
    monkeypatch.setattr(
        "cxr_pipeline.training.versions.version", lambda name: "99" if name == library else metadata.version(name)
    )
    assert cells.digest(PARAMETERS) != before


def test_cells_know_versions_without_tensorflow() -> None:
    code = "import sys, cxr_pipeline.experiments.cells as c; c.digest({}); print('keras' in sys.modules)"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "False"


def test_films_that_are_gone_do_not_count_nor_those_of_a_split_that_is_not_looked_at() -> None:
    report = {"data_digest": "d", "n_films": 3}
    splits = pd.DataFrame({"sha256": ["a", "b", "c", "gone"], "split": ["train", "validation", "test", "train"]})
    digests = cells.films_digests(report, splits)
    assert digests == cells.films_digests(report, splits.head(3))
    assert digests != cells.films_digests(report, splits.replace("validation", "train"))
    assert digests != cells.films_digests({**report, "data_digest": "e"}, splits)
    unseen = cells.films_digests(report, splits, unseen="test")
    assert unseen == cells.films_digests(report, splits.drop(index=2), unseen="test") | {"splits": unseen["splits"]}
    assert unseen["splits"] == cells.table_digest(splits.head(2))


def test_films_that_are_gone_come_last_in_the_splits() -> None:
    films = pd.DataFrame(
        {"source": "s", "image": list("abcdef"), "sha256": list("uvwxyz"), "patient_id": list("123456")}
    ).assign(given_split=None, label_x=[0, 1] * 3)
    shares = {"train": 0.5, "validation": 0.25, "test": 0.25, "seed": 0, "ignore_given_split": False}
    ledger = assign_splits(films, films.head(0).assign(split=""), **shares)
    rest = films.drop(index=[0, 3])
    report = {"data_digest": "d", "n_films": len(rest)}
    now = assign_splits(rest, ledger, **shares)
    assert len(now) == len(films)
    of_rest = ledger[ledger["image"].isin(rest["image"])]
    assert cells.films_digests(report, now)["splits"] == cells.table_digest(of_rest)


def test_weights_count_by_their_content_in_every_network_that_is_tried(tmp_path: Path) -> None:
    found = []
    for value in (0.0, 1.0):
        with h5py.File(tmp_path / "own.weights.h5", "w") as file:
            file["x"] = value
        found.append(cells.weights_digests({"name": "vgg16", "weights": "own.weights.h5"}, tmp_path))
    assert len(found[0]) == len(found[1]) == 1
    assert found[0] != found[1]
    axis = {"choices": ["none", "own.weights.h5"]}
    assert cells.weights_digests({"name": "vgg16", "weights": axis}, tmp_path) == [None, *found[1]]
    names = {"choices": ["vgg16", "small_cnn"]}
    assert cells.weights_digests({"name": names, "weights": "none"}, tmp_path) == [None, None]


def test_the_digest_of_a_table_does_not_depend_on_the_order_of_its_rows() -> None:
    table = pd.DataFrame({"sha256": ["a", "b", "c"], "split": ["train", "test", None], "n": [1.0, np.nan, 3.0]})
    digest = cells.table_digest(table)
    assert digest == cells.table_digest(table.iloc[[2, 0, 1]])
    assert digest != cells.table_digest(table.assign(split=["train", "train", None]))


def test_a_cell_belongs_to_its_launch() -> None:
    launch = Launch(project="/p", env="demo", runtime_params={"raw": "/r"}, parent_run="7", parameters=PARAMETERS)
    cell = launch.cell(task="effusion", name="a", folder="/f", overrides={"model": {}}, wanted="history")
    assert (cell.project, cell.env, cell.runtime_params, cell.parent_run) == ("/p", "demo", {"raw": "/r"}, "7")
    assert (cell.task, cell.name, cell.folder, cell.overrides, cell.wanted) == (
        *("effusion", "a", "/f", {"model": {}}, "history"),
    )
