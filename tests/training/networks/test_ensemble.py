"""Tests of ensembles: the graph computes the mean of networks, each as it was, and the shared layers once."""

import keras
import numpy as np
import pytest

from cxr_pipeline.training.networks.build import OUTPUT, POOLED, build_model
from cxr_pipeline.training.networks.ensemble import combine, layer_of, members_of

SIZE = 32
IMAGES = np.random.default_rng(0).integers(0, 256, (5, SIZE, SIZE, 1), dtype=np.uint8)


def networks(name, *, same_layers_to=None, n_outputs=1, n=3):
    """Build networks with random heads, which are equal up to a layer."""
    built = []
    for seed in range(n):
        network = build_model(name=name, size=SIZE, seed=seed, n_outputs=n_outputs, pooling="multilevel")
        output, rng = network.get_layer(OUTPUT), np.random.default_rng(seed)
        output.set_weights([rng.normal(size=weight.shape) for weight in output.get_weights()])
        if same_layers_to is not None and built:
            for model in (network, built[0]):
                keras.Model(model.input, model.get_layer(same_layers_to).output)
            lower = keras.Model(network.input, network.get_layer(same_layers_to).output)
            lower.set_weights(keras.Model(built[0].input, built[0].get_layer(same_layers_to).output).get_weights())
        built.append(network)
    return built


@pytest.mark.parametrize(
    ("name", "shared", "n_outputs"),
    [("small_cnn", "image", 1), ("small_cnn", POOLED, 3), ("mobilenetv2", "block_12_add", 2)],
)
def test_an_ensemble_is_the_mean_of_its_members(name, shared, n_outputs, tmp_path):
    members = networks(name, same_layers_to=None if shared == "image" else shared, n_outputs=n_outputs)
    scores = np.stack([member.predict(IMAGES, verbose=0) for member in members])
    ensemble = combine(members, shared)
    assert (ensemble.name, ensemble.output_shape, ensemble.output.dtype) == (name, (None, n_outputs), "float32")
    assert np.ptp(scores, axis=0).max() > 0.01
    ensemble.save(tmp_path / "ensemble.keras")
    for model in (ensemble, keras.models.load_model(tmp_path / "ensemble.keras", safe_mode=True)):
        np.testing.assert_allclose(model.predict(IMAGES, verbose=0), scores.mean(axis=0), atol=1e-6)
        for member, expected in zip(members_of(model), scores, strict=True):
            np.testing.assert_allclose(member.predict(IMAGES, verbose=0), expected, atol=1e-6)
            assert layer_of(member, OUTPUT).output is member.output


def test_shared_layers_are_in_the_graph_once():
    members = networks("small_cnn", same_layers_to="block3_pool")
    ensemble, single = combine(members, "block3_pool"), members[0]
    below = keras.Model(single.input, single.get_layer("block3_pool").output).count_params()
    assert ensemble.count_params() == below + 3 * (single.count_params() - below)


def test_a_single_network_stays_as_it_is():
    (network,) = networks("small_cnn", n=1)
    assert combine([network], "image") is network
    assert members_of(network)[0].output is network.output
    assert layer_of(network, POOLED) is network.get_layer(POOLED)
