from pathlib import Path

import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node, Pipeline

from cxr_pipeline import config, hooks
from cxr_pipeline.errors import UserError


def use(*parameters: object) -> None:
    """A node's function; what it is given does not matter."""


@pytest.fixture
def parameters(tmp_path: Path) -> dict[str, object]:
    films = {"layout": "class_folders", "path": "films"}
    return {
        "params:t.task": config.Task(name="t", title="T", kind="binary", classes={"well": ("well",), "ill": ("ill",)}),
        "params:t.sources": config.Sources({"films": films}),
        "params:t.model": config.Model(name="densenet121", weights="lost.weights.h5", head_units=8, dropout=0),
        "params:folders": config.Folders(**dict.fromkeys(("raw", "images", "features", "checkpoints"), tmp_path)),
    }


def preflight(parameters: dict[str, object]) -> None:
    catalog = DataCatalog({name: MemoryDataset(value) for name, value in parameters.items()})
    pipeline = Pipeline([Node(use, inputs=list(parameters), outputs=None, name="use")])
    hooks.Preflight().before_pipeline_run(pipeline, catalog)


def put_films(folder: Path) -> None:
    for name in ("well", "ill"):
        (folder / "films" / name).mkdir(parents=True)
        (folder / "films" / name / "1.png").write_bytes(b"film")


def test_a_missing_source_stops_the_run(parameters, tmp_path) -> None:
    with pytest.raises(UserError, match=r"t\.sources\.films\.path: no folder at .*films"):
        preflight(parameters)


def test_missing_weights_stop_the_run(parameters, tmp_path) -> None:
    put_films(tmp_path)
    with pytest.raises(UserError, match=r"found nothing at .*lost\.weights\.h5"):
        preflight(parameters)


def test_only_what_the_run_uses_is_looked_for(parameters, tmp_path) -> None:
    put_films(tmp_path)
    preflight({name: value for name, value in parameters.items() if name != "params:t.model"})
    preflight({name: value for name, value in parameters.items() if name != "params:folders"})


def test_a_pipeline_of_two_tasks_has_no_task_of_its_own() -> None:
    def of(task: str) -> Pipeline:
        return Pipeline([Node(use, inputs="x", outputs=None, name="use")], namespace=task)

    assert hooks._task_of(of("a")) == "a"
    assert hooks._task_of(of("a") + of("b")) is None
    assert hooks._task_of(Pipeline([])) is None


@pytest.mark.parametrize(("layout", "phantom"), [("phantoms", True), ("nih", False)])
def test_the_layout_makes_a_run_a_phantom_one(layout, phantom) -> None:
    more = {"n_patients": 3, "prevalence": {"Effusion": 0.5}} if phantom else {}
    sources = config.Sources({"films": {"layout": layout, "path": "x", **more}})
    pipeline = Pipeline([Node(use, inputs="params:sources", outputs=None, name="use")], namespace="t")
    assert hooks._is_phantom(pipeline, DataCatalog({"params:t.sources": MemoryDataset(sources)})) is phantom
    assert hooks._is_phantom(pipeline, DataCatalog({})) is False


def test_intervals_that_are_undefined_are_not_shown() -> None:
    assert hooks._with_interval(0.5, 0.25, 0.75) == "0.500 (0.250 to 0.750)"
    assert hooks._with_interval(0.5, None, None) == "0.500"
    assert hooks._with_interval(None, None, None) == "undefined"
