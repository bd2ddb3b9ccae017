import pytest
from kedro.io import DataCatalog
from shipped import CONF, TASKS

from cxr_pipeline import settings
from cxr_pipeline.framework.config_loader import TaskConfigLoader
from cxr_pipeline.framework.shown_pipelines import OPENED
from cxr_pipeline.pipeline_registry import OTHERS, STAGES, register_pipelines

LAYERS = ("images", "retraining", "preparation", "splits", "model", "decision rule", "results", "version", "report")


@pytest.fixture(scope="module")
def registered():
    return register_pipelines()


@pytest.mark.parametrize("opened", ["", "pneumonia", "chest14_tuning", "comparison"])
def test_tasks_and_the_other_pipelines_of_one_are_shown(monkeypatch, registered, opened):
    monkeypatch.setenv(OPENED, opened)
    shown = register_pipelines()
    task = opened.split("_")[0] if opened not in ("", "comparison") else TASKS[0]
    assert list(shown) == ["__default__", *TASKS, *(f"{task}_{other}" for other in OTHERS), "comparison"]
    assert len(shown) < 20
    for name, pipeline in shown.items():
        whole = registered[(opened or TASKS[0]) if name == "__default__" else name]
        assert [node.name for node in pipeline.nodes] == [node.name for node in whole.nodes]
        assert (pipeline.inputs(), pipeline.all_outputs()) == (whole.inputs(), whole.all_outputs())


def test_stages_are_boxes_unless_there_is_one(monkeypatch):
    monkeypatch.setenv(OPENED, "")
    shown = register_pipelines()
    assert {node.namespace for node in shown["__default__"].nodes} == set(STAGES)
    assert {node.namespace for node in shown["effusion_scoring"].nodes} == {None}
    node = next(node for node in shown["effusion"].nodes if node.name == "effusion.splitting.split_patients")
    assert node.preview().content.startswith("Assign patients without a split")


def test_layers_are_on_for_every_pipeline_and_in_the_order_of_the_stages(registered):
    pytest.importorskip("kedro_viz", reason="kedro-viz is not installed")
    from kedro_viz.data_access import DataAccessManager

    entries = TaskConfigLoader(str(CONF), env="demo", **settings.CONFIG_LOADER_ARGS)["catalog"]
    catalog = DataCatalog.from_config(entries)
    for name in {name for pipeline in registered.values() for name in pipeline.inputs() if name.startswith("param")}:
        catalog[name] = {}
    manager = DataAccessManager()
    manager.add_catalog(catalog, registered)
    manager.add_pipelines(registered)
    for name in registered:
        manager.create_modular_pipelines_tree_for_registered_pipeline(name)
        layers = manager.get_sorted_layers_for_registered_pipeline(name)
        nodes = manager.get_nodes_for_registered_pipeline(name)
        used = {layer for node in nodes if (layer := getattr(node, "layer", None))}
        assert used
        assert [layer for layer in layers if layer in used] == [layer for layer in LAYERS if layer in used]
