from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import mlflow
import pytest
from kedro.framework.hooks.manager import _create_hook_manager, _register_hooks
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node, Pipeline
from kedro_mlflow.io.artifacts import MlflowArtifactDataset

from cxr_pipeline import settings
from cxr_pipeline.common.errors import UserError
from cxr_pipeline.common.mappings import lay_over
from cxr_pipeline.data.sources.pseudonyms import VARIABLE
from cxr_pipeline.framework import config, hooks
from cxr_pipeline.framework.config_loader import TaskConfigLoader
from cxr_pipeline.framework.datasets.document import JSONDataset
from cxr_pipeline.framework.hooks import runs, summary, tracking
from cxr_pipeline.tracking import sending

CONF = Path(__file__).parents[3] / "conf"
# Those of a binary task, with a network that needs no weights.
SHIPPED = TaskConfigLoader(str(CONF), env="demo", **settings.CONFIG_LOADER_ARGS)["parameters"]["effusion"]


def use(*parameters: object) -> None:
    """A node's function; what it is given does not matter."""


@pytest.fixture
def parameters(tmp_path: Path) -> dict[str, object]:
    images = {"layout": "class_folders", "path": "images"}
    return {
        "params:t.task": config.Task(name="t", title="T", kind="binary", classes={"well": ("well",), "ill": ("ill",)}),
        "params:t.sources": config.Sources({"images": images}),
        "params:t.model": config.Network(
            name="densenet121", weights="lost.weights.h5", head_units=8, dropout=0, pooling="average"
        ),
        "params:folders": config.Folders(**dict.fromkeys(config.Folders.model_fields, tmp_path)),
    }


def preflight(parameters: dict[str, object], **task: object) -> None:
    catalog = DataCatalog({name: MemoryDataset(value) for name, value in parameters.items()})
    pipeline = Pipeline([Node(use, inputs=list(parameters), outputs=None, name="use")])
    hook = hooks.Preflight()
    hook.after_context_created(
        SimpleNamespace(env="demo", config_loader={"parameters": {"t": lay_over(SHIPPED, task)}})
    )
    hook.before_pipeline_run(pipeline, catalog)


def put_images(folder: Path) -> None:
    for name in ("well", "ill"):
        (folder / "images" / name).mkdir(parents=True)
        (folder / "images" / name / "1.png").write_bytes(b"image")


def test_a_missing_source_stops_the_run(parameters, tmp_path) -> None:
    with pytest.raises(UserError, match=r"t\.sources\.images\.path: no folder at .*images"):
        preflight(parameters)


def test_missing_weights_stop_the_run(parameters, tmp_path) -> None:
    put_images(tmp_path)
    with pytest.raises(UserError, match=r"found nothing at .*lost\.weights\.h5"):
        preflight(parameters)


ARGMAX = {"rule": "argmax"}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"thresholds": {"policy": ARGMAX}}, "asks for the rule argmax.*this task is binary"),
        ({"thresholds": {"compared": [{"rule": "youden"}, ARGMAX]}}, "asks for the rule argmax"),
        ({"model": {"name": "vgg16", "weights": "lost.weights.h5"}}, r"found nothing at .*lost\.weights\.h5"),
        ({"training": None}, "training: expected parameters and their values, found None"),
    ],
)
def test_what_stops_a_cell_stops_its_ablation_with_the_cell_named(parameters, tmp_path, overrides, message) -> None:
    put_images(tmp_path)
    del parameters["params:t.model"]
    for cells, expected in (
        ({"a": {}, "b": overrides}, pytest.raises(UserError, match=rf"^t\.ablation, cell 'b': .*{message}")),
        ({"a": {}, "b": None}, nullcontext()),
    ):
        parameters["params:t.ablation"] = config.Ablation(baseline=None, common={}, cells=cells, grid=None)
        with expected:
            preflight(parameters)


@pytest.mark.parametrize(
    ("space", "task", "message"),
    [
        ({"name": {"choices": ["small_cnn", "vgg16"]}}, {"model": {"weights": "lost.weights.h5"}}, "found nothing at"),
        ({"weights": {"choices": ["none", "lost.weights.h5"]}}, {}, "found nothing at"),
        ({"name": {"choices": ["small_cnn", "cnn"]}, "weights": {"choices": ["none", "imagenet"]}}, {}, None),
        ({"dropout": {"low": 0, "high": 0.5}}, {"augmentation": {"view": 3}}, r"^t: augmentation\.view: Extra inputs"),
    ],
)
def test_what_stops_a_trial_stops_the_search(parameters, tmp_path, space, task, message) -> None:
    put_images(tmp_path)
    del parameters["params:t.model"]
    parameters["params:t.tuning"] = config.Tuning(
        n_trials=1, storage=None, seed=1, pruner={"name": "none"}, space={"model": space}
    )
    with pytest.raises(UserError, match=message) if message else nullcontext():
        preflight(parameters, **task)


def test_only_what_the_run_uses_is_looked_for(parameters, tmp_path) -> None:
    put_images(tmp_path)
    preflight({name: value for name, value in parameters.items() if name != "params:t.model"})
    preflight({name: value for name, value in parameters.items() if name != "params:folders"})


def test_a_version_that_could_not_say_whom_it_has_seen_is_not_trained(parameters, tmp_path, monkeypatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    put_images(tmp_path)
    del parameters["params:t.model"]
    folders = parameters["params:folders"]
    pipeline = Pipeline([Node(use, inputs=list(parameters), outputs=None, name="use")])
    registering = Pipeline(
        pipeline, namespace="t.registration", parameters={name.removeprefix("params:"): name for name in parameters}
    )
    for name, made in (("patient.key", True), ("nowhere/patient.key", False)):
        parameters["params:folders"] = folders.model_copy(update={"patient_key": tmp_path / name})
        catalog = DataCatalog({key: MemoryDataset(value) for key, value in parameters.items()})
        hooks.Preflight().before_pipeline_run(pipeline, catalog)
        assert not (tmp_path / name).exists()
        if made:
            hooks.Preflight().before_pipeline_run(registering, catalog)
            assert (tmp_path / name).exists()
        else:
            with pytest.raises(UserError, match=r"cannot be kept in .*nowhere"):
                hooks.Preflight().before_pipeline_run(registering, catalog)


def test_the_folder_of_an_unpacked_source_may_be_its_file(parameters, tmp_path) -> None:
    parameters["params:t.sources"] = config.Sources({"table": {"layout": "pixel_table", "path": "nih28/table.csv"}})
    del parameters["params:t.model"]
    with pytest.raises(UserError, match=r"t\.sources\.table\.path: no file at .*table\.csv"):
        preflight(parameters)
    (tmp_path / "nih28").mkdir()
    pixels = ",".join(f"pixel{number}" for number in range(1, 785))
    (tmp_path / "nih28" / "table.csv").write_text(f"label,{pixels}\n0{',7' * 784}\n")
    preflight(parameters)


def test_scoring_reads_no_source(parameters) -> None:
    parameters["params:t.scoring"] = config.Scoring(folder=None, model=None, batch_size=1)
    preflight(parameters)


def test_a_pipeline_of_two_tasks_has_no_task_of_its_own() -> None:
    def of(task: str) -> Pipeline:
        return Pipeline([Node(use, inputs="x", outputs=None, name="use")], namespace=task)

    assert runs.task_of(of("a")) == "a"
    assert runs.task_of(of("a") + of("b")) is None
    assert runs.task_of(Pipeline([])) is None


@pytest.mark.parametrize(("layout", "phantom"), [("phantoms", True), ("nih", False)])
def test_the_layout_makes_a_run_a_phantom_one(layout, phantom) -> None:
    more = {"n_patients": 3, "prevalence": {"Effusion": 0.5}} if phantom else {}
    sources = config.Sources({"images": {"layout": layout, "path": "x", **more}})
    pipeline = Pipeline([Node(use, inputs="params:sources", outputs=None, name="use")], namespace="t")
    assert runs.is_phantom(pipeline, DataCatalog({"params:t.sources": MemoryDataset(sources)})) is phantom
    assert runs.is_phantom(pipeline, DataCatalog({})) is False


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")


def printed(metrics: dict[str, object], tmp_path: Path, capsys, outputs=("t.model_version",), version=3) -> str:
    """What a run of the task ``t`` prints when it has ended."""
    of_model = {"name": "cxr-t", "version": version}
    catalog = DataCatalog({"t.metrics": MemoryDataset(metrics), "t.model_version": MemoryDataset(of_model)})
    catalog["t.report"] = JSONDataset(filepath=str(tmp_path / "report.html"))
    node = Node(lambda: (1,) * len(outputs), inputs=None, outputs=list(outputs), name="register", namespace="t")
    hooks.Summary().after_pipeline_run(Pipeline([node]), catalog)
    return " ".join(capsys.readouterr().out.split())


BINARY = {
    "task": "t",
    "phantom": False,
    "n_images": 12,
    "thresholds": {"ill": 0.375},
    "metrics": {
        "auc": {"value": 0.75, "low": 0.5, "high": 0.875},
        "accuracy": {"value": 0.625, "low": 0.25, "high": 0.75},
        "sensitivity": {"value": 0.125, "low": None, "high": None},
        "specificity": {"value": None, "low": None, "high": None},
    },
}


def test_a_binary_run_ends_with_its_figures_and_threshold(tmp_path, capsys) -> None:
    text = printed(BINARY, tmp_path, capsys)
    for words in ("t (12 test images)", "AUC │ 0.750 (0.500 to 0.875)", "ill 0.375", "report.html", "cxr-t 3"):
        assert words in text
    assert "mean" not in text
    assert "always" not in text


def test_a_run_of_several_classes_ends_with_their_means_and_what_the_commonest_would_reach(tmp_path, capsys) -> None:
    thresholds = {"well": 0.25, "ill": 0.375, "worse": 0.5}
    always = {"majority": {"class": "well", "accuracy": 0.5}}
    text = printed(BINARY | {"thresholds": thresholds, "phantom": True} | always, tmp_path, capsys)
    for words in ("phantom images", "mean AUC │ 0.750", "accuracy │ 0.625 (0.250 to 0.750)", "saying well │ 0.500"):
        assert words in text
    assert "threshold" not in text
    labels = printed(BINARY | {"thresholds": thresholds}, tmp_path, capsys)
    assert "mean sensitivity │ 0.125" in labels
    assert "accuracy" not in labels


def test_the_path_of_the_report_is_whole_in_a_narrow_terminal(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "50")
    folder = tmp_path / "[bold] names" / ("deep_" * 20)
    text = printed(BINARY, folder, capsys)
    assert str(folder / "report.html").replace(" ", "") in "".join(text.replace("│", "").split())


def test_a_run_that_registers_nothing_ends_without_a_table(tmp_path, capsys) -> None:
    assert printed(BINARY, tmp_path, capsys, outputs=("t.metrics",)) == ""


def test_a_version_that_is_not_registered_yet_is_said_to_be_so(tmp_path, capsys) -> None:
    assert "cxr-t is not registered yet" in printed(BINARY, tmp_path, capsys, version=None)


@pytest.mark.parametrize("cell", [None, {"name": "baseline"}])
def test_a_run_that_was_not_sent_fails_at_its_end_and_a_cell_does_not(monkeypatch, caplog, cell) -> None:
    def left() -> None:
        raise sending.NotSent("2 tags wait")

    monkeypatch.setattr(sending, "check_sent", left)
    expected = nullcontext() if cell else pytest.raises(sending.NotSent, match="2 tags wait")
    with expected:
        hooks.Sent().after_pipeline_run({"runtime_params": {"cell": cell} if cell else None})
    assert ("2 tags wait" in caplog.text) is bool(cell)


@pytest.mark.parametrize("cell", [None, {"name": "baseline" * 40, "parent_run": "p"}])
def test_what_a_cell_keeps_says_which_run_it_belongs_to(tmp_path, monkeypatch, cell) -> None:
    opened: dict[str, object] = {}
    monkeypatch.setattr(sending, "open_outbox", lambda folder, **about: opened.update(about, folder=folder))
    monkeypatch.setattr(sending, "set_tags", lambda tags: None)
    monkeypatch.setattr(tracking.MlflowHook, "before_pipeline_run", lambda *arguments: None)
    hook = hooks.Tracking()
    hook._is_mlflow_enabled = False
    hook._context = SimpleNamespace(config_loader={"parameters": {"folders": {"unsent": tmp_path}}})
    hook.mlflow_config = SimpleNamespace(tracking=SimpleNamespace(run=SimpleNamespace(name=None)))
    run_params = {"runtime_params": {"cell": cell}, "pipeline_names": ["effusion_ablation"], "env": None}
    hook.before_pipeline_run(run_params, Pipeline([]), DataCatalog({}))
    name, parent = (cell["name"], "p") if cell else ("effusion_ablation", None)
    assert (opened["name"], opened["parent"], opened["folder"]) == (name, parent, tmp_path)
    run = hook.mlflow_config.tracking.run.name
    assert run == (name[:250] if cell else None)


def test_a_run_that_fails_says_what_was_not_sent(monkeypatch, caplog) -> None:
    def left() -> None:
        raise sending.NotSent("2 tags wait")

    monkeypatch.setattr(sending, "check_sent", left)
    hooks.Sent().on_pipeline_error()
    assert "2 tags wait" in caplog.text


def test_the_last_of_all_hooks_is_the_one_that_fails_a_run() -> None:
    manager = _create_hook_manager()
    _register_hooks(manager, settings.HOOKS)
    for hook in (manager.hook.after_pipeline_run, manager.hook.on_pipeline_error):
        assert type(hook.get_hookimpls()[0].plugin) is hooks.Sent


def test_artifacts_are_logged_by_the_run_and_not_by_the_catalog(tmp_path) -> None:
    def artifact(name: str) -> MlflowArtifactDataset:
        dataset = {"type": JSONDataset, "filepath": str(tmp_path / name)}
        return MlflowArtifactDataset(dataset=dataset, artifact_path="pages")

    catalog = DataCatalog({"a": artifact("a.json"), "b": JSONDataset(filepath=str(tmp_path / "b.json"))})
    pipeline = Pipeline([Node(lambda: (1, 2, 3), inputs=None, outputs=["a", "b", "c"], name="make")])
    assert tracking._take_artifacts(pipeline, catalog) == {"a": (tmp_path / "a.json", "pages")}
    catalog.save("a", 1)
    assert (tmp_path / "a.json").read_text() == "1\n"
    assert mlflow.active_run() is None


def test_parameters_are_logged_without_passwords(monkeypatch) -> None:
    logged: dict[str, object] = {}
    monkeypatch.setattr(sending, "log_params", logged.update)
    hook = hooks.Tracking()
    hook._is_mlflow_enabled = True
    hook.sanitize_param_name = lambda name: name
    node = Node(use, inputs="params:t.tuning", outputs=None, name="use", namespace="t")
    hook.before_node_run(node, {"params:t.tuning": {"storage": "postgresql://me:secret@host/studies"}})
    assert logged == {"tuning.storage": "postgresql://me:***@host/studies"}


def test_intervals_that_are_undefined_are_not_shown() -> None:
    assert summary._with_interval(0.5, 0.25, 0.75) == "0.500 (0.250 to 0.750)"
    assert summary._with_interval(0.5, None, None) == "0.500"
    assert summary._with_interval(None, None, None) == "undefined"
