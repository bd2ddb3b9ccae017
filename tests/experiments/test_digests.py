import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest

from cxr_pipeline import settings
from cxr_pipeline.common.mappings import lay_over
from cxr_pipeline.data.splits import assign_splits
from cxr_pipeline.experiments import digests
from cxr_pipeline.framework.config_loader import TaskConfigLoader

CONF = Path(__file__).parents[2] / "conf"
SHIPPED: dict[str, Any] = TaskConfigLoader(str(CONF), env="demo", **settings.CONFIG_LOADER_ARGS)["parameters"]
PARAMETERS = SHIPPED["effusion"]


def test_what_decides_a_result_decides_the_digest() -> None:
    digest = digests.digest(PARAMETERS, data="x")
    assert digest == digests.digest(dict(reversed(PARAMETERS.items())), data="x")
    blocks = [block for block in PARAMETERS if block not in digests.IDLE]
    others = [
        digests.digest(PARAMETERS, data="y"),
        digests.digest(PARAMETERS, data="x", splits="z"),
        *(digests.digest(lay_over(PARAMETERS, {block: {"new": 1}}), data="x") for block in blocks),
    ]
    assert len({digest, *others}) == 1 + len(others)


@pytest.mark.parametrize(
    "idle",
    [
        {"ablation": {"cells": {"more": {}}}},
        {"tuning": {"n_trials": 9}},
        {"task": {"title": "Another title"}},
        {"resolution": {"workers": 3}},
    ],
)
def test_what_changes_no_result_does_not_count(idle: dict[str, Any]) -> None:
    assert digests.digest(lay_over(PARAMETERS, idle)) == digests.digest(PARAMETERS)


def test_what_comes_after_training_can_be_left_out() -> None:
    changed = lay_over(PARAMETERS, {"thresholds": {"calibration": "none"}, "evaluation": {"replicates": 500}})
    before, after = (digests.digest(one, idle=digests.AFTER_TRAINING) for one in (PARAMETERS, changed))
    assert before == after != digests.digest(PARAMETERS)


@pytest.mark.parametrize(
    "changed",
    [
        "cxr_pipeline.__version__",
        "cxr_pipeline.data.images.recipe.VERSION",
        "cxr_pipeline.training.versions.FITTING",
        "cxr_pipeline.training.versions.FEATURES",
    ],
)
def test_another_version_of_the_code_runs_cells_again(monkeypatch: pytest.MonkeyPatch, changed: str) -> None:
    before = digests.digest(PARAMETERS), digests.training_digest(PARAMETERS)
    monkeypatch.setattr(changed, 99)
    after = digests.digest(PARAMETERS), digests.training_digest(PARAMETERS)
    assert not set(before) & set(after)


@pytest.mark.parametrize("library", ["keras", "tensorflow"])
def test_another_version_of_a_library_that_trains_runs_cells_again(
    monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    before = digests.digest(PARAMETERS)
    monkeypatch.setattr(
        "cxr_pipeline.training.versions.version", lambda name: "99" if name == library else metadata.version(name)
    )
    assert digests.digest(PARAMETERS) != before


def test_cells_know_versions_without_tensorflow() -> None:
    code = "import sys, cxr_pipeline.experiments.digests as c; c.digest({}); print('keras' in sys.modules)"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "False"


def test_images_that_are_gone_do_not_count_nor_those_of_a_split_that_is_not_looked_at() -> None:
    report = {"data_digest": "d", "n_images": 3}
    splits = pd.DataFrame({"sha256": ["a", "b", "c", "gone"], "split": ["train", "validation", "test", "train"]})
    found = digests.images_digests(report, splits)
    assert found == digests.images_digests(report, splits.head(3))
    assert found != digests.images_digests(report, splits.replace("validation", "train"))
    assert found != digests.images_digests({**report, "data_digest": "e"}, splits)
    unseen = digests.images_digests(report, splits, unseen="test")
    assert unseen == digests.images_digests(report, splits.drop(index=2), unseen="test") | {"splits": unseen["splits"]}
    assert unseen["splits"] == digests.table_digest(splits.head(2))


def test_images_that_are_gone_come_last_in_the_splits() -> None:
    images = pd.DataFrame(
        {"source": "s", "image": list("abcdef"), "sha256": list("uvwxyz"), "patient_id": list("123456")}
    ).assign(given_split=None, label_x=[0, 1] * 3)
    shares = {"train": 0.5, "validation": 0.25, "test": 0.25, "seed": 0, "ignore_given_split": False}
    ledger = assign_splits(images, images.head(0).assign(split=""), **shares)
    rest = images.drop(index=[0, 3])
    report = {"data_digest": "d", "n_images": len(rest)}
    now = assign_splits(rest, ledger, **shares)
    assert len(now) == len(images)
    of_rest = ledger[ledger["image"].isin(rest["image"])]
    assert digests.images_digests(report, now)["splits"] == digests.table_digest(of_rest)


def test_weights_count_by_their_content_in_every_network_that_is_tried(tmp_path: Path) -> None:
    found = []
    for value in (0.0, 1.0):
        with h5py.File(tmp_path / "own.weights.h5", "w") as file:
            file["x"] = value
        found.append(digests.weights_digests({"name": "vgg16", "weights": "own.weights.h5"}, tmp_path))
    assert len(found[0]) == len(found[1]) == 1
    assert found[0] != found[1]
    axis = {"choices": ["none", "own.weights.h5"]}
    assert digests.weights_digests({"name": "vgg16", "weights": axis}, tmp_path) == [None, *found[1]]
    names = {"choices": ["vgg16", "small_cnn"]}
    assert digests.weights_digests({"name": names, "weights": "none"}, tmp_path) == [None, None]


def test_the_digest_of_a_table_does_not_depend_on_the_order_of_its_rows() -> None:
    table = pd.DataFrame({"sha256": ["a", "b", "c"], "split": ["train", "test", None], "n": [1.0, np.nan, 3.0]})
    digest = digests.table_digest(table)
    assert digest == digests.table_digest(table.iloc[[2, 0, 1]])
    assert digest != digests.table_digest(table.assign(split=["train", "train", None]))
