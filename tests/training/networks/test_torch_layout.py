"""Networks in PyTorch's layout compared with a reference that is written from the definitions of torchvision."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import save_file

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.training.networks.backbones import BACKBONES
from cxr_pipeline.training.networks.torch_layout import from_torch
from cxr_pipeline.training.networks.weight_files import load_weights

SIZE = 64
RNG = np.random.default_rng(0)


class Tensors(dict):
    """The tensors of a network, which makes each with random values when it is first used."""

    def make(self, name, shape, low=None):
        if name not in self:
            values = RNG.normal(size=shape, scale=np.sqrt(2 / max(np.prod(shape[1:]), 1)))
            self[name] = np.asarray(values if low is None else RNG.uniform(low, 1.5, shape), np.float32)
        return self[name]


def conv(tensors, x, name, filters, size, stride=1):
    kernel = tensors.make(f"{name}.weight", (filters, x.shape[-1], size, size))
    x = tf.pad(x, [[0, 0], [size // 2] * 2, [size // 2] * 2, [0, 0]])
    return tf.nn.conv2d(x, kernel.transpose(2, 3, 1, 0), stride, "VALID")


def norm(tensors, x, name):
    scale, shift, mean, variance = (
        tensors.make(f"{name}.{part}", (x.shape[-1],), low)
        for part, low in (("weight", 0.5), ("bias", -1), ("running_mean", -1), ("running_var", 0.5))
    )
    tensors.setdefault(f"{name}.num_batches_tracked", np.array(7))
    return (x - mean) / np.sqrt(variance + 1e-5) * scale + shift


def pool(x):
    """Max pooling of 3 x 3 pixels with a stride of 2, padded by minus infinity."""
    padded = tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], constant_values=-np.inf)
    return tf.nn.max_pool2d(padded, 3, 2, "VALID")


def densenet121(tensors, x):
    x = pool(tf.nn.relu(norm(tensors, conv(tensors, x, "features.conv0", 64, 7, 2), "features.norm0")))
    for block, n_layers in enumerate((6, 12, 24, 16), start=1):
        for layer in range(1, n_layers + 1):
            name = f"features.denseblock{block}.denselayer{layer}"
            new = conv(tensors, tf.nn.relu(norm(tensors, x, f"{name}.norm1")), f"{name}.conv1", 128, 1)
            new = conv(tensors, tf.nn.relu(norm(tensors, new, f"{name}.norm2")), f"{name}.conv2", 32, 3)
            x = tf.concat([x, new], -1)
        if block < 4:
            name = f"features.transition{block}"
            x = conv(tensors, tf.nn.relu(norm(tensors, x, f"{name}.norm")), f"{name}.conv", x.shape[-1] // 2, 1)
            x = tf.nn.avg_pool2d(x, 2, 2, "VALID")
    return tf.nn.relu(norm(tensors, x, "features.norm5"))


def resnet50v1_5(tensors, x):
    x = pool(tf.nn.relu(norm(tensors, conv(tensors, x, "conv1", 64, 7, 2), "bn1")))
    for stage, n_blocks in enumerate((3, 4, 6, 3), start=1):
        for block in range(n_blocks):
            name, filters = f"layer{stage}.{block}", 32 * 2**stage
            stride = 2 if block == 0 and stage > 1 else 1
            new = tf.nn.relu(norm(tensors, conv(tensors, x, f"{name}.conv1", filters, 1), f"{name}.bn1"))
            new = tf.nn.relu(norm(tensors, conv(tensors, new, f"{name}.conv2", filters, 3, stride), f"{name}.bn2"))
            new = norm(tensors, conv(tensors, new, f"{name}.conv3", 4 * filters, 1), f"{name}.bn3")
            if block == 0:
                shortcut = conv(tensors, x, f"{name}.downsample.0", 4 * filters, 1, stride)
                x = norm(tensors, shortcut, f"{name}.downsample.1")
            x = tf.nn.relu(x + new)
    return x


REFERENCES = {"densenet121": (densenet121, "classifier"), "resnet50v1_5": (resnet50v1_5, "fc")}


def backbone(name):
    image = keras.Input((SIZE, SIZE, 1))
    return keras.Model(image, BACKBONES[name](image, (1 / 64, -2.0)), name=name)


def network(name, channels=3):
    """Return grey images, the tensors of a network, and its features of these images."""
    images = RNG.integers(0, 256, (2, SIZE, SIZE, 1)).astype(np.float32)
    tensors, (reference, top) = Tensors(), REFERENCES[name]
    features = reference(tensors, tf.constant(np.repeat(images / 64 - 2, channels, axis=-1)))
    tensors[f"{top}.weight"] = np.ones((14, features.shape[-1]), np.float32)
    tensors[f"{top}.bias"] = np.ones(14, np.float32)
    return images, tensors, features.numpy()


@pytest.fixture(scope="module")
def densenet():
    return network("densenet121")


@pytest.mark.parametrize(("name", "channels"), [("densenet121", 3), ("densenet121", 1), ("resnet50v1_5", 3)])
def test_features_are_those_of_the_reference(name, channels, tmp_path, caplog):
    images, tensors, expected = network(name, channels)
    save_file(tensors, tmp_path / "own.safetensors")
    target = backbone(name)
    with caplog.at_level("INFO"):
        load_weights(target, tmp_path / "own.safetensors")
    found = target.predict(images, verbose=0)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 1e-3 * np.abs(expected).max()
    top = REFERENCES[name][1]
    assert f"own.safetensors contains the top of a network, which is not used: {top}.bias, {top}.weight" in caplog.text


def rename_old(name):
    return "module.densenet121." + name.replace("norm1", "norm.1").replace("norm2", "norm.2").replace("conv1", "conv.1")


@pytest.mark.parametrize("rename", [rename_old, lambda name: f"backbone.{name}"])
def test_names_of_old_versions_and_of_modules_around_the_network_are_known(densenet, rename):
    images, tensors, expected = densenet
    target = backbone("densenet121")
    from_torch(target, {rename(name): values for name, values in tensors.items()})
    np.testing.assert_allclose(target.predict(images, verbose=0), expected, rtol=0, atol=1e-3 * np.abs(expected).max())


KERNEL, LAYER = "features.denseblock2.denselayer3.conv2.weight", "features.denseblock2.denselayer3.conv2"
CHANGES = {
    f"no tensor {KERNEL}": lambda tensors: tensors.pop(KERNEL),
    rf"{LAYER} has the shape \(3, 3, 128, 16\)": lambda tensors: tensors.update({KERNEL: tensors[KERNEL][:16]}),
    "it also has features.denseblock2.denselayer99": lambda tensors: tensors.update(
        {"features.denseblock2.denselayer99.conv2.weight": tensors[KERNEL]}
    ),
    "several tensors features.denseblock": lambda tensors: tensors.update(
        {f"encoder_k.{name}": values for name, values in tensors.items()}
    ),
    "not finite numbers": lambda tensors: tensors.update({KERNEL: tensors[KERNEL] * np.nan}),
}


@pytest.mark.parametrize("message", CHANGES)
def test_tensors_of_another_network_are_refused_and_nothing_is_assigned(densenet, message, tmp_path):
    tensors = dict(densenet[1])
    CHANGES[message](tensors)
    save_file(tensors, tmp_path / "other.safetensors")
    target = backbone("densenet121")
    before = target.get_weights()
    with pytest.raises(UserError, match=rf"model\.weights: .*other\.safetensors cannot be read: .*{message}"):
        load_weights(target, tmp_path / "other.safetensors")
    if "finite" not in message:
        assert all(np.array_equal(a, b) for a, b in zip(before, target.get_weights(), strict=True))


def test_networks_without_known_names_are_refused(densenet):
    with pytest.raises(ValueError, match="read for densenet121 and resnet50v1_5, not vgg16"):
        from_torch(backbone("vgg16"), densenet[1])
