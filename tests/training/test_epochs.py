import keras
import numpy as np

from cxr_pipeline.training.epochs import computing_in_bfloat16
from cxr_pipeline.training.networks.build import build_model


def test_a_network_computes_in_bfloat16_inside_the_context_only() -> None:
    sizes = {"size": 32, "n_outputs": 2, "head_units": 4, "dropout": 0, "seed": 0}
    model = build_model(name="small_cnn", weights_file=None, exclusive=True, **sizes)
    network = keras.Sequential([model])
    image = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 1)).astype(np.float32)
    before = np.asarray(network(image))
    with computing_in_bfloat16(network, enabled=True):
        inside = network(image)
        assert model.get_layer("block1_conv1").compute_dtype == "bfloat16"
        assert model.get_layer("block1_conv1").kernel.dtype == "float32"
        assert model.get_layer("image_standardisation").compute_dtype == "float32"
        assert keras.backend.standardize_dtype(inside.dtype) == "float32"
        assert not np.array_equal(inside, before)
        np.testing.assert_allclose(inside, before, atol=0.05)
    np.testing.assert_array_equal(network(image), before)
    with computing_in_bfloat16(network, enabled=False):
        assert {layer.compute_dtype for layer in model.layers} == {"float32"}
