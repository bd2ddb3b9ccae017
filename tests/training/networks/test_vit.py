"""The vision transformer compared with a reference that is written from the definition of DINOv2."""

import json

import keras
import numpy as np
import pytest
from safetensors.numpy import save_file
from scipy.special import erf, softmax

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.evaluation.grad_cam import GradCam
from cxr_pipeline.training.networks import vit
from cxr_pipeline.training.networks.backbones import BACKBONES
from cxr_pipeline.training.networks.build import build_model
from cxr_pipeline.training.networks.weight_files import load_weights

# The size of the images that DINOv2 was trained on, whose position embeddings need no interpolation.
SIZE, SIDE = 518, 37
SMALL = {"num_layers": 2, "hidden_dim": 32, "num_heads": 4, "intermediate_dim": 128}
CONFIG = {
    "model_type": "dinov2",
    "image_size": SIZE,
    "patch_size": 14,
    "num_hidden_layers": 2,
    "hidden_size": 32,
    "num_attention_heads": 4,
    "mlp_ratio": 4,
    "layerscale_value": 1.0,
    "use_swiglu_ffn": False,
    "hidden_dropout_prob": 0.0,
    "drop_path_rate": 0.0,
}
RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(vit, "_VIT_B", SMALL)


@pytest.fixture
def tensors():
    """Random weights by their names in Hugging Face's transformers."""
    width = SMALL["hidden_dim"]
    shapes = {
        "embeddings.cls_token": (1, 1, width),
        "embeddings.mask_token": (1, width),
        "embeddings.position_embeddings": (1, SIDE**2 + 1, width),
        "embeddings.patch_embeddings.projection.weight": (width, 3, 14, 14),
        "embeddings.patch_embeddings.projection.bias": (width,),
        "layernorm.weight": (width,),
        "layernorm.bias": (width,),
    }
    dense = {f"attention.attention.{name}": (width, width) for name in ("query", "key", "value")}
    dense |= {"attention.output.dense": (width, width), "mlp.fc1": (4 * width, width), "mlp.fc2": (width, 4 * width)}
    for layer in range(SMALL["num_layers"]):
        for name, shape in {**dense, "norm1": (width,), "norm2": (width,)}.items():
            shapes |= {f"encoder.layer.{layer}.{name}.weight": shape, f"encoder.layer.{layer}.{name}.bias": shape[:1]}
        shapes |= {f"encoder.layer.{layer}.layer_scale{number}.lambda1": (width,) for number in (1, 2)}
    return {name: RNG.normal(size=shape, scale=0.2).astype(np.float32) for name, shape in shapes.items()}


def norm(tensors, x, name):
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
    return scaled * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]


def dense(tensors, x, name):
    return x @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]


def attend(tensors, x, name):
    def heads(part):
        values = dense(tensors, x, f"{name}.attention.{part}")
        return values.reshape(*values.shape[:2], SMALL["num_heads"], -1).transpose(0, 2, 1, 3)

    query, key, value = map(heads, ("query", "key", "value"))
    weights = softmax(query @ key.transpose(0, 1, 3, 2) / np.sqrt(query.shape[-1]), axis=-1)
    joined = (weights @ value).transpose(0, 2, 1, 3).reshape(x.shape)
    return dense(tensors, joined, f"{name}.output.dense")


def reference(tensors, images):
    """Return the mean token of the patches and the token of the image."""
    name = "embeddings.patch_embeddings.projection"
    kernel = tensors[f"{name}.weight"].transpose(2, 3, 1, 0).reshape(14 * 14 * 3, -1)
    patches = images.reshape(len(images), SIDE, 14, SIDE, 14, 3).transpose(0, 1, 3, 2, 4, 5)
    patches = patches.reshape(len(images), SIDE**2, -1) @ kernel + tensors[f"{name}.bias"]
    of_image = np.repeat(tensors["embeddings.cls_token"], len(images), axis=0)
    x = np.concatenate([of_image, patches], axis=1) + tensors["embeddings.position_embeddings"]
    for layer in range(SMALL["num_layers"]):
        place = f"encoder.layer.{layer}"
        attended = attend(tensors, norm(tensors, x, f"{place}.norm1"), f"{place}.attention")
        x = x + tensors[f"{place}.layer_scale1.lambda1"] * attended
        hidden = dense(tensors, norm(tensors, x, f"{place}.norm2"), f"{place}.mlp.fc1")
        activated = hidden * (1 + erf(hidden / np.sqrt(2))) / 2
        x = x + tensors[f"{place}.layer_scale2.lambda1"] * dense(tensors, activated, f"{place}.mlp.fc2")
    x = norm(tensors, x, "layernorm")
    return np.concatenate([x[:, 1:].mean(1), x[:, 0]], axis=1)


def backbone(size=SIZE):
    image = keras.Input((size, size, 1))
    return keras.Model(image, BACKBONES[vit.NAME](image, (1 / 64, -2.0)), name=vit.NAME)


def save(tensors, folder):
    (folder / "config.json").write_text(json.dumps(CONFIG))
    save_file(tensors, folder / "model.safetensors")
    return folder / "model.safetensors"


def test_features_are_those_of_the_reference(tensors, tmp_path):
    images = RNG.integers(0, 256, (1, SIZE, SIZE, 1)).astype(np.float32)
    target = backbone()
    load_weights(target, save(tensors, tmp_path))
    found = target.predict(images, verbose=0)
    assert found.shape == (1, SIDE, SIDE, 64)
    expected = reference(tensors, np.repeat(images / 64 - 2, 3, axis=-1))
    assert np.abs(found.mean((1, 2)) - expected).max() < 1e-3 * np.abs(expected).max()
    # The position embeddings of a smaller image are interpolated, and a stored model computes the same.
    smaller = backbone(56)
    load_weights(smaller, tmp_path / "model.safetensors")
    smaller.save(tmp_path / "stored.keras")
    stored = keras.models.load_model(tmp_path / "stored.keras", compile=False, safe_mode=True)
    part = images[:, :56, :56]
    np.testing.assert_array_equal(stored.predict(part, verbose=0), smaller.predict(part, verbose=0))


def test_another_network_or_a_missing_configuration_is_refused(tensors, tmp_path):
    target = backbone(28)
    before = target.get_weights()
    file = save({name: values for name, values in tensors.items() if "layer.1.mlp" not in name}, tmp_path)
    with pytest.raises(UserError, match=r"model\.safetensors cannot be read"):
        load_weights(target, file)
    (tmp_path / "config.json").unlink()
    with pytest.raises(
        UserError, match=r"cannot be read: expected the name model\.safetensors, and a file config\.json"
    ):
        load_weights(target, file)
    assert all(np.array_equal(a, b) for a, b in zip(before, target.get_weights(), strict=True))


def test_without_kerashub_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "keras_hub", None)
    with pytest.raises(UserError, match=r"needs KerasHub\. Install it: pip install 'cxr_pipeline\[vit\]'"):
        backbone(28)


def test_its_heat_maps_are_those_of_the_patches():
    model = build_model(name=vit.NAME, size=56, pooling="multilevel", seed=1)
    assert [layer.name for layer in model.layers if layer.name.startswith("pooled_level")] == []
    maps = GradCam(model).heatmaps(RNG.integers(0, 256, (2, 56, 56)).astype(np.uint8), 0)
    assert maps.shape == (2, 56, 56)
