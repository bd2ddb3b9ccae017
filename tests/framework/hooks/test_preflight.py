from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import keras
import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node, Pipeline
from shipped import parameters_of

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.common.mappings import lay_over
from cxr_pipeline.data.sources.pseudonyms import VARIABLE
from cxr_pipeline.framework import config, hooks
from cxr_pipeline.framework.config import Network
from cxr_pipeline.framework.hooks import preflight as checks
from cxr_pipeline.training.networks.weights import ARCHITECTURES, FROZEN, PUBLISHED, SMALLEST_SIZES


class Loader(dict[str, object]):
    # Those of a cell are not checked for unknown keys.
    @property
    def runtime_params(self):
        return {"cell": {"name": "a"}}


def use(*parameters):
    """Stand in for a node with parameters."""


@pytest.fixture
def parameters(tmp_path):
    for name in ("well", "ill"):
        (tmp_path / "images" / name).mkdir(parents=True)
        (tmp_path / "images" / name / "1.png").write_bytes(b"image")
    images = {"layout": "class_folders", "path": "images"}
    return {
        "params:t.task": config.Task(name="t", title="T", kind="binary", classes={"well": ("well",), "ill": ("ill",)}),
        "params:t.sources": config.Sources({"images": images}),
        "params:folders": config.Folders(**dict.fromkeys(config.Folders.model_fields, tmp_path)),
    }


@pytest.fixture
def connected(monkeypatch):
    """The MLflow URIs that were connected to."""
    uris = []
    monkeypatch.setattr("cxr_pipeline.tracking.server.connect", lambda uri, artifacts: uris.append(uri))
    return uris


@pytest.fixture
def preflight(connected):
    def check(parameters, namespace=None, **task):
        catalog = DataCatalog({name: MemoryDataset(value) for name, value in parameters.items()})
        pipeline = Pipeline([Node(use, inputs=list(parameters), outputs=None, name="use")])
        if namespace:
            names = {name.removeprefix("params:"): name for name in parameters}
            pipeline = Pipeline(pipeline, namespace=namespace, parameters=names)
        # The task is binary, with a network that needs no weights.
        shipped = lay_over(parameters_of(env="demo"), task)
        loader = Loader(globals={"tracking_uri": "http://host", "artifacts": "/artifacts"}, parameters={"t": shipped})
        hook = hooks.Preflight()
        hook.after_context_created(SimpleNamespace(config_loader=loader, env=None))
        hook.before_pipeline_run({}, pipeline, catalog)

    return check


def test_a_network_that_cannot_be_trained_stops_the_run(parameters, preflight):
    lost = {"name": "densenet121", "weights": "lost.weights.h5", "head_units": 8, "dropout": 0, "pooling": "average"}
    with pytest.raises(UserError, match=r"found no file at .*lost\.weights\.h5"):
        preflight(parameters | {"params:t.model": config.Network(**lost)}, model=lost)
    # Without the block, nothing is trained.
    preflight(parameters, model=lost)


def test_scoring_and_drift_need_a_folder_and_no_source(parameters, preflight, connected, tmp_path):
    parameters["params:t.sources"] = config.Sources({"a": {"layout": "class_folders", "path": "lost"}})
    drift = config.Drift.model_validate(parameters_of()["drift"])
    for folder in (tmp_path, tmp_path / "nowhere", None):
        with nullcontext() if folder == tmp_path else pytest.raises(UserError, match=r"t\.drift\.folder"):
            block = drift.model_copy(update={"folder": folder and str(folder)})
            preflight(parameters | {"params:t.drift": block}, namespace="t.drift")
        with nullcontext() if folder == tmp_path else pytest.raises(UserError, match=r"t\.scoring\.folder"):
            scoring = config.Scoring(folder=folder and str(folder), model=None, batch_size=1)
            preflight(parameters | {"params:t.scoring": scoring})
    assert len(connected) == 2


ARGMAX = {"rule": "argmax"}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"thresholds": {"policy": ARGMAX}}, "asks for the rule argmax.*this task is binary"),
        ({"model": {"name": "vgg16", "weights": "lost.weights.h5"}}, r"found no file at .*lost\.weights\.h5"),
        ({"model": {"name": "vgg16"}, "resolution": {"size": 16}}, r"t\.resolution\.size is 16, but vgg16 needs"),
        ({"training": None}, "training: expected parameters and their values, found None"),
        (None, None),
    ],
)
def test_an_invalid_cell_stops_its_ablation(parameters, preflight, overrides, message):
    cells = {"a": {}, "b": overrides}
    parameters["params:t.ablation"] = config.Ablation(baseline=None, common={}, cells=cells, grid=None)
    with pytest.raises(UserError, match=rf"^t\.ablation, cell 'b': .*{message}") if message else nullcontext():
        preflight(parameters)


@pytest.mark.parametrize(
    ("space", "task", "message"),
    [
        ({"name": {"choices": ["resnet50", "vgg16"]}}, {"model": {"weights": "lost.weights.h5"}}, "found no file at"),
        ({"name": {"choices": ["vgg16", "small_cnn"]}}, {"resolution": {"size": 16}}, "size is 16, but vgg16 needs"),
        ({"weights": {"choices": ["none", "lost.weights.h5"]}}, {}, "small_cnn takes no pretrained weights"),
        ({"name": {"choices": ["small_cnn", "cnn"]}, "weights": {"choices": ["none", "imagenet"]}}, {}, None),
        ({"dropout": {"low": 0, "high": 0.5}}, {"augmentation": {"view": 3}}, r"^t: augmentation\.view: Extra inputs"),
    ],
)
def test_an_invalid_trial_stops_its_search(parameters, preflight, space, task, message):
    parameters["params:t.tuning"] = config.Tuning(
        n_trials=1, folds=1, storage=None, seed=1, pruner={"name": "none"}, space={"model": space}
    )
    with pytest.raises(UserError, match=message) if message else nullcontext():
        preflight(parameters, **task)


@pytest.mark.parametrize(
    ("key", "message"), [("patient.key", None), ("nowhere/patient.key", "cannot be stored in .*nowhere")]
)
def test_the_patient_key_needs_a_writable_place(parameters, preflight, tmp_path, monkeypatch, key, message):
    monkeypatch.delenv(VARIABLE, raising=False)
    folders = parameters["params:folders"].model_copy(update={"patient_key": tmp_path / key})
    parameters["params:folders"] = folders
    preflight(parameters)
    assert not folders.patient_key.exists()
    with pytest.raises(UserError, match=message) if message else nullcontext():
        preflight(parameters, namespace="t.registration")
    assert folders.patient_key.exists() is (message is None)


def test_a_run_of_two_tasks_names_the_runs_to_start_instead():
    node = Node(use, inputs=None, outputs="used", name="use")
    pipeline = Pipeline([node], namespace="a") + Pipeline([node], namespace="b")
    hook = hooks.Preflight()
    hook.after_context_created(SimpleNamespace(config_loader={}, env="demo"))
    commands = r"kedro run --env demo --pipeline=a && kedro run --env demo --pipeline=b_drift$"
    with pytest.raises(UserError, match=rf"^A run has one task, found a and b\. Start a run for each: {commands}"):
        hook.before_pipeline_run({"pipeline_names": ["a", "b_drift"]}, pipeline, DataCatalog())


NETWORK = ("weights", "normalisation")


def check_network(name="small_cnn", **changes):
    network = {"name": name, "weights": "none"} | {key: changes.pop(key) for key in NETWORK if key in changes}
    blocks = Network(**network, head_units=0, dropout=0, pooling="average")
    settings = {"size": 64, "cut": None, "raw": Path(), "task": "effusion"}
    checks.check_network(blocks, **settings | changes)


@pytest.mark.parametrize("name", PUBLISHED)
def test_images_that_are_too_small_for_a_network_are_refused(name):
    smallest = SMALLEST_SIZES[name]
    with pytest.raises(UserError, match=rf"effusion\.resolution\.size is .*, but {name} needs .* {smallest} pixels"):
        check_network(name, size=smallest - 1)
    check_network(name, size=smallest)


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name not in FROZEN])
def test_a_network_that_is_trained_from_scratch_has_no_cut_to_check(name):
    check_network(name, size=SMALLEST_SIZES[name], cut="nowhere")


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("small_cnn", {"normalisation": "imagenet"}, "small_cnn takes no pretrained weights"),
        ("cnn", {"weights": "models:/cxr-chest14/3"}, "cnn takes no pretrained weights"),
        ("dinov2_vitb14", {"weights": "/x/model.safetensors"}, "64, but dinov2_vitb14 needs a multiple of 14"),
        ("dinov2_vitb14", {"size": 56}, "weights is none, but dinov2_vitb14 needs a file"),
        ("resnet50v1_5", {"weights": "imagenet"}, "Keras publishes no weights of resnet50v1_5"),
    ],
)
def test_weights_that_a_network_cannot_have_are_refused(name, changes, message):
    with pytest.raises(UserError, match=message):
        check_network(name, **changes)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """The weights of a MobileNetV2."""
    file = tmp_path_factory.mktemp("weights") / "mobilenetv2.weights.h5"
    keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(32, 32, 3)).save_weights(file)
    return file


@pytest.mark.parametrize(
    ("name", "cut", "message"),
    [
        ("mobilenetv2", None, None),
        ("mobilenetv2", "block_13_add", r"training\.fine_tuning\.cut: expected a layer of .*mobilenetv2.*Try block_1"),
        ("mobilenetv2", "block_14_expand", "is inside a block of mobilenetv2"),
        ("vgg16", None, "Give a file with the weights of vgg16"),
        ("small_cnn", None, "small_cnn takes no pretrained weights"),
    ],
)
def test_weights_that_do_not_fit_and_impossible_cuts_are_refused(weights, name, cut, message):
    with pytest.raises(UserError, match=message) if message else nullcontext():
        check_network(name, weights=str(weights), cut=cut)
