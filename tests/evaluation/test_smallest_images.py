"""Every network at its smallest image size, with each pooling and each kind of task."""

from itertools import product

import numpy as np
import pytest
import tensorflow as tf

from cxr_pipeline.evaluation.grad_cam import GradCam
from cxr_pipeline.training.networks.build import build_model
from cxr_pipeline.training.networks.weights import PUBLISHED, SMALL_NETWORKS, SMALLEST_SIZES

# Smallest value of resolution.size.
SIZE = 16
# Kind of task: number of outputs, and whether they are exclusive.
KINDS = {"binary": (1, False), "multiclass": (3, True), "multilabel": (3, False)}
# Backbones take seconds to build; the kind of task changes their last layer only.
CASES = [
    *product(SMALL_NETWORKS, ("average", "multilevel"), KINDS),
    *product(PUBLISHED, ["multilevel"], ["multiclass"]),
    *(pytest.param(name, "average", "multilabel", marks=pytest.mark.slow) for name in PUBLISHED),
]


@pytest.fixture(autouse=True)
def eager():
    """Skip the tracing of graphs, which takes longer than computing one small image."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.mark.parametrize(("name", "pooling", "kind"), CASES)
def test_a_network_scores_and_explains_its_smallest_images(name, pooling, kind):
    size, (n_outputs, exclusive) = max(SIZE, SMALLEST_SIZES[name]), KINDS[kind]
    model = build_model(name=name, size=size, pooling=pooling, n_outputs=n_outputs, exclusive=exclusive)
    image = np.random.default_rng(0).integers(0, 256, (1, size, size), np.uint8)
    scores = model(image[..., np.newaxis]).numpy()
    assert scores.shape == (1, n_outputs)
    assert np.isfinite(scores).all()
    heatmap = GradCam(model).heatmaps(image, n_outputs - 1, batch_size=1)
    assert heatmap.shape == image.shape
    assert 0 <= heatmap.min() <= heatmap.max() <= 1
