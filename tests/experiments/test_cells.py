import itertools
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxr_pipeline.experiments import cells
from cxr_pipeline.experiments.cells import Launch
from cxr_pipeline.nesting import lay_over

PARAMETERS = {
    "resolution": {"size": 64},
    "morphology": {"steps": []},
    "augmentation": {"views": 2},
    "resampling": {"plan": "oversample"},
    "model": {"name": "vgg16", "dropout": 0.3},
    "training": {"loss": "focal", "monitor": "val_auc"},
    "thresholds": {"calibration": "platt"},
    "ablation": {"cells": {}},
    "tuning": {"n_trials": 3},
}
TWELVE = cells.cross(
    {
        "backbone": {name: {"model": {"name": name}} for name in ("vgg16", "resnet50", "inceptionv3")},
        "augmentation": {"augmented": {}, "not augmented": {"augmentation": {"views": 0}}},
        "epoch": {name: {"training": {"monitor": f"val_{name}"}} for name in ("accuracy", "recall")},
    }
)
WHOLE = {name: lay_over(PARAMETERS, overrides) for name, overrides in TWELVE.items()}


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


def test_cells_that_share_features_follow_each_other() -> None:
    chains = cells.chains(WHOLE)
    assert sorted(itertools.chain(*chains)) == sorted(TWELVE)
    assert len(chains) == 6
    for chain in chains:
        assert len({name.rsplit(", ", 1)[0] for name in chain}) == 1


def test_cells_that_differ_in_a_decision_alone_share_features_but_films_of_another_size_do_not() -> None:
    changed = {
        "as it is": PARAMETERS,
        "fewer films": lay_over(PARAMETERS, {"resampling": {"plan": "none"}}),
        "other threshold": lay_over(PARAMETERS, {"thresholds": {"calibration": "none"}}),
        "larger films": lay_over(PARAMETERS, {"resolution": {"size": 128}}),
    }
    assert sorted(map(len, cells.chains(changed))) == [1, 3]


def test_only_the_first_of_a_training_keeps_the_epochs_of_the_others() -> None:
    for chain in cells.chains(WHOLE):
        found = cells.companions(chain, WHOLE)
        assert found[chain[0]] == [WHOLE[chain[1]]["training"]["monitor"]]
        assert found[chain[1]] == []


def test_trainings_that_differ_in_more_than_the_metric_keep_nothing_for_each_other() -> None:
    two = {
        "a": lay_over(PARAMETERS, {"training": {"monitor": "val_recall"}}),
        "b": lay_over(PARAMETERS, {"training": {"monitor": "val_auc", "loss": "cross_entropy"}}),
        "c": lay_over(PARAMETERS, {"training": {"monitor": "val_auc"}, "resampling": {"plan": "none"}}),
    }
    (chain,) = cells.chains(two)
    assert cells.companions(chain, two) == {"a": [], "b": [], "c": []}


def test_neighbours_of_a_chain_differ_in_the_metric_alone() -> None:
    losses = {
        f"{loss}, {monitor}": lay_over(PARAMETERS, {"training": {"loss": loss, "monitor": monitor}})
        for monitor in ("val_auc", "val_recall")
        for loss in ("focal", "cross_entropy")
    }
    (chain,) = cells.chains(losses)
    assert sum(map(len, cells.companions(chain, losses).values())) == 2
    assert chain[0].split(",")[0] == chain[1].split(",")[0]


def test_what_decides_a_result_decides_the_digest() -> None:
    digest = cells.digest(PARAMETERS, data="x")
    assert digest == cells.digest(dict(reversed(PARAMETERS.items())), data="x")
    assert digest == cells.digest(lay_over(PARAMETERS, {"ablation": {"cells": {"more": {}}}}), data="x")
    assert digest == cells.digest(lay_over(PARAMETERS, {"tuning": {"n_trials": 9}}), data="x")
    decisive = [block for block in PARAMETERS if block not in cells.IDLE]
    others = [
        cells.digest(PARAMETERS, data="y"),
        cells.digest(PARAMETERS, data="x", splits="z"),
        *(cells.digest(lay_over(PARAMETERS, {block: {"new": 1}}), data="x") for block in decisive),
    ]
    assert len({digest, *others}) == 1 + len(others)


def test_another_version_of_the_code_runs_cells_again(monkeypatch: pytest.MonkeyPatch) -> None:
    before = cells.digest(PARAMETERS, data="x")
    monkeypatch.setattr("cxr_pipeline.__version__", "9.9.9")
    assert cells.digest(PARAMETERS, data="x") != before


def test_the_digest_of_a_table_does_not_depend_on_the_order_of_its_rows() -> None:
    table = pd.DataFrame({"sha256": ["a", "b", "c"], "split": ["train", "test", None], "n": [1.0, np.nan, 3.0]})
    digest = cells.table_digest(table)
    assert digest == cells.table_digest(table.iloc[[2, 0, 1]])
    assert digest != cells.table_digest(table.assign(split=["train", "train", None]))


def test_a_cell_belongs_to_its_launch() -> None:
    call = {
        **{"project": "/p", "place": "/h", "conf_source": "/c", "env": "demo", "runtime_params": {"raw": "/r"}},
        **{"tracking_uri": "http://127.0.0.1:5000", "parent_run": "7"},
    }
    own = {"task": "effusion", "name": "a", "folder": "/f", "inputs": "/i", "overrides": {}, "wanted": "history"}
    assert asdict(Launch(**call, parameters=PARAMETERS).cell(**own)) == {**call, **own}
