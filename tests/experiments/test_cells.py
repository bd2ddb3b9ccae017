import itertools
from dataclasses import asdict

from hypothesis import given
from hypothesis import strategies as st

from cxr_pipeline.experiments import cells
from cxr_pipeline.experiments.cells import Launch

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


def test_a_cell_belongs_to_its_launch() -> None:
    call = {
        **{"project": "/p", "place": "/h", "conf_source": "/c", "env": "demo", "runtime_params": {"raw": "/r"}},
        **{"tracking_uri": "http://127.0.0.1:5000", "parent_run": "7"},
    }
    own = {
        **{"task": "effusion", "name": "a", "folder": "/f", "inputs": "/i", "checkpoints": None},
        **{"overrides": {}, "wanted": "history"},
    }
    assert asdict(Launch(**call, parameters={}).cell(**own)) == {**call, **own}
