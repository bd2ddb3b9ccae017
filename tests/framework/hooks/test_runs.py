import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node, Pipeline

from cxr_pipeline.framework import config
from cxr_pipeline.framework.hooks import runs


def pipeline_of(task: str) -> Pipeline:
    return Pipeline([Node(lambda sources: None, inputs="params:sources", outputs=None, name="use")], namespace=task)


@pytest.mark.parametrize(("layout", "phantom"), [("phantoms", True), ("nih", False)])
def test_the_layout_makes_a_run_a_phantom_run(layout, phantom) -> None:
    more = {"n_patients": 3, "prevalence": {"Effusion": 0.5}} if phantom else {}
    sources = config.Sources({"images": {"layout": layout, "path": "x", **more}})
    assert runs.is_phantom(pipeline_of("t"), DataCatalog({"params:t.sources": MemoryDataset(sources)})) is phantom
    assert runs.is_phantom(pipeline_of("t"), DataCatalog({})) is False
