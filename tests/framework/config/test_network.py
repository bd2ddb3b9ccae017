import json

import h5py
import pytest
import yaml
from kedro.validation import ParameterValidationError
from shipped import parameters_of
from stub_models import fixed_rule, grey_network, mlflow_file, register

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.images.recipe import Recipe
from cxr_pipeline.framework.config import Network, Task, Training
from cxr_pipeline.framework.config.network import read_card, weights_digests

RECIPE = Recipe(size=32, mode="fit", max_megapixels=1.0)


def test_weights_are_digested_by_content_for_every_network_of_a_search(tmp_path):
    weights = []
    for value in (0.0, 1.0):
        with h5py.File(tmp_path / "own.weights.h5", "w") as file:
            file["x"] = value
        weights.append(weights_digests({"name": "vgg16", "weights": "own.weights.h5"}, tmp_path))
    assert len(weights[0]) == len(weights[1]) == 1
    assert weights[0] != weights[1]
    axis = {"choices": ["none", "own.weights.h5"]}
    assert weights_digests({"name": "vgg16", "weights": axis}, tmp_path) == [None, *weights[1]]
    names = {"choices": ["vgg16", "small_cnn"]}
    assert weights_digests({"name": names, "weights": "none"}, tmp_path) == [None, None]


def test_the_digest_of_a_registered_version_is_its_number(tmp_path):
    with mlflow_file(tmp_path):
        register(grey_network(32), fixed_rule(), RECIPE)
        given = ["models:/cxr-effusion/latest", "models:/cxr-effusion/1"]
        digests = [weights_digests({"name": "vgg16", "weights": uri}, tmp_path) for uri in given]
        with pytest.raises(UserError, match="No usable model at models:/cxr-none@champion"):
            weights_digests({"name": "vgg16", "weights": "models:/cxr-none@champion"}, tmp_path)
    assert digests == [["models:/cxr-effusion/1"]] * 2


def test_a_card_beside_a_weights_file_is_part_of_its_digest(tmp_path):
    with h5py.File(tmp_path / "own.h5", "w") as file:
        file["x"] = 0.0
    model = {"name": "vgg16", "weights": "own.h5"}
    (without,) = weights_digests(model, tmp_path)
    (tmp_path / "own.h5.json").write_text('{"normalisation": "imagenet"}')
    (with_card,) = weights_digests(model, tmp_path)
    assert with_card.startswith(f"{without} ")


@pytest.mark.parametrize("suffix", [".yml", ".json"])
def test_cards_are_yaml_or_json(tmp_path, suffix):
    content = {"licence": "MIT", "trained_on": ["chexpert"], "normalisation": {"scale": 0.5, "offset": [0, -1, 1]}}
    (tmp_path / f"own.h5{suffix}").write_text(yaml.safe_dump(content) if suffix == ".yml" else json.dumps(content))
    card = read_card(tmp_path / "own.h5")
    assert (card.licence, card.trained_on, card.source) == ("MIT", ("chexpert",), "")
    assert (card.normalisation.scale, card.normalisation.offset) == (0.5, (0, -1, 1))


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("trained: nih", ParameterValidationError, r"own\.h5\.yml.*trained\n"),
        ("normalisation: inception", ParameterValidationError, "'imagenet', 'torchxrayvision' or 'jfhealthcare'"),
        ("a: [", UserError, r"own\.h5\.yml cannot be read: line 1"),
        ("no mapping", ParameterValidationError, r"own\.h5\.yml"),
    ],
)
def test_a_card_with_mistakes_is_refused(tmp_path, text, error, message):
    (tmp_path / "own.h5.yml").write_text(text)
    with pytest.raises(error, match=rf"(?s){message}"):
        read_card(tmp_path / "own.h5")


@pytest.mark.parametrize(
    ("card", "parameter", "expected"),
    [
        (None, None, (1 / 127.5, -1.0)),
        ("jfhealthcare", None, (1 / 64, -2.0)),
        ("jfhealthcare", "torchxrayvision", (2048 / 255, -1024.0)),
        (None, {"scale": 2, "offset": [1, 2, 3]}, (2.0, [1.0, 2.0, 3.0])),
    ],
)
def test_the_normalisation_is_that_of_the_parameter_or_the_card_or_the_backbone(tmp_path, card, parameter, expected):
    import keras

    file = tmp_path / "mobilenetv2.weights.h5"
    keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(32, 32, 3)).save_weights(file)
    if card:
        (tmp_path / f"{file.name}.yml").write_text(f"normalisation: {card}")
    blocks = parameters_of()
    given = {"name": "mobilenetv2", "weights": file.name, "normalisation": parameter}
    network = Network(**{**blocks["model"], **given})
    training, task = Training(**blocks["training"]), Task(**blocks["task"])
    built = network.build(size=32, task=task, training=training, raw=tmp_path)
    scaling = built.get_layer("normalisation")
    found = [
        value[0] if isinstance(value, list) and len({*value}) == 1 else value
        for value in (scaling.scale, scaling.offset)
    ]
    assert found == list(expected)


def test_a_network_starts_from_the_backbone_of_a_registered_version(tmp_path):
    import numpy as np

    from cxr_pipeline.training.networks.build import build_model

    source = build_model(name="mobilenetv2", size=32, seed=3, normalisation=(0.5, 1.0))
    blocks = parameters_of()
    network = Network(**{**blocks["model"], "name": "mobilenetv2", "weights": "models:/cxr-effusion/latest"})
    with mlflow_file(tmp_path):
        register(source, fixed_rule(), RECIPE)
        options = {"size": 32, "task": Task(**blocks["task"]), "training": Training(**blocks["training"])}
        built = network.build(**options, raw=tmp_path)
    for layer in ("Conv1", "block_16_project"):
        np.testing.assert_array_equal(built.get_layer(layer).get_weights()[0], source.get_layer(layer).get_weights()[0])
    assert built.get_layer("normalisation").scale == 0.5
    assert not built.get_layer("Conv1").trainable


def test_a_changed_list_of_training_images_changes_the_digest(tmp_path):
    with h5py.File(tmp_path / "own.h5", "w") as file:
        file["x"] = 0.0
    (tmp_path / "own.h5.yml").write_text("images: list.txt")
    digests = set()
    for content in ("1.png\n", "1.png\n2.png\n", "2.png\n1.png\n"):
        (tmp_path / "list.txt").write_text(content)
        digests |= set(weights_digests({"name": "vgg16", "weights": "own.h5"}, tmp_path))
    assert len(digests) == 2
