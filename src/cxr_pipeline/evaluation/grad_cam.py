"""Heat maps by Grad-CAM, and their comparison with those of randomised networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any, cast

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from cxr_pipeline.common.progress import track
from cxr_pipeline.data.images.store import PreparedImages
from cxr_pipeline.evaluation.intervals import measure_mean
from cxr_pipeline.evaluation.localisation import boxes_of, localise, measure_maps, rank_correlation
from cxr_pipeline.training.networks.backbones import NORMALISATION
from cxr_pipeline.training.networks.build import OUTPUT, POOLED
from cxr_pipeline.training.networks.ensemble import layer_of, members_of
from cxr_pipeline.training.networks.views import network_of

if TYPE_CHECKING:
    from keras import KerasTensor, Layer, Model

METHOD = "HiResCAM (Grad-CAM with a weight for each position)"
BATCH_SIZE = 16
SIDE = 12
# A single shuffled network may favour the position of a finding by chance.
SHUFFLES = 5
_CHUNK = 4 * BATCH_SIZE


class GradCam:
    """Heat maps of the evidence that a model finds for an output.

    The channels of a feature map are weighted, at each position, by the gradient of the logit of the output and summed;
    the positive part is the heat map. The logit is used instead of the probability, because a saturated sigmoid or
    softmax has no gradient. The feature map is that of the deepest layer with at least ``SIDE`` x ``SIDE`` positions,
    because the last one of a network, 7 x 7 for an image of 224 pixels, is too coarse for a small effusion. At this
    distance from the output, the weights of Grad-CAM, one per channel, no longer locate a finding, unlike those of
    HiResCAM. The name of the layer is the attribute ``layer``. The heat map of an ensemble is the mean of those of its
    members, of the image itself without further views.

    The model is not changed, and the heat maps follow its weights.

    References:
        Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV
        2017, arXiv:1610.02391.
        Draelos and Carin, "Use HiResCAM instead of Grad-CAM for faithful explanations of convolutional neural
        networks", arXiv:2011.08891.
    """

    def __init__(self, model: Model) -> None:
        members = members_of(network_of(model))
        self.layer: str = _feature_layer(members[0]).name
        self._explain = [_explain(member) for member in members]

    def heatmaps(self, images: np.ndarray, output: int | np.ndarray, batch_size: int = BATCH_SIZE) -> np.ndarray:
        """Compute the heat map of each grey image, independently of the other images.

        Images are uint8 [n, S, S], of the input size S of the model; ``output`` is the index of an output, or one for
        each image, int [n]. The maps are float32 [n, S, S], in [0, 1] with a maximum of 1, or all zeros if there is no
        evidence for the output or the numbers overflow.
        """
        outputs = np.broadcast_to(np.asarray(output, np.int32), len(images))
        maps = np.empty(images.shape, np.float32)
        # Padding keeps the shape of all batches equal, so that the graph is traced once.
        batch, indices = np.zeros((batch_size, *images.shape[1:]), np.uint8), np.zeros(batch_size, np.int32)
        for start in range(0, len(images), batch_size):
            n = min(batch_size, len(images) - start)
            batch[:n], indices[:n] = images[start : start + n], outputs[start : start + n]
            maps[start : start + n] = np.mean([explain(batch, indices)[:n] for explain in self._explain], axis=0)
        highest = maps.max(axis=(1, 2), keepdims=True, initial=0)
        np.divide(maps, highest, out=maps, where=highest > 0)
        return maps


def _explain(member: Model) -> Callable[[np.ndarray, np.ndarray], Any]:
    """Return the function from images, uint8 [n, S, S], and outputs, int32 [n], to heat maps of one network."""
    layer, output = _feature_layer(member), layer_of(member, OUTPUT)
    # The pooled feature maps of earlier layers reach the output without passing this layer.
    passing = [layer.output, *(pooled for pooled in _pooled_maps(member) if not _leads_to(layer, pooled))]
    lower, head = keras.Model(member.input, passing), keras.Model(passing, output.input)
    size = int(member.input_shape[1])
    image = tf.TensorSpec((None, size, size), tf.uint8)

    @tf.function(input_signature=(image, tf.TensorSpec((None,), tf.int32)))  # type: ignore[untyped-decorator]
    def explain(images: Any, outputs: Any) -> Any:
        activations, *beside = tf.nest.flatten(lower(tf.cast(images[..., tf.newaxis], tf.float32), training=False))
        with tf.GradientTape() as tape:
            tape.watch(activations)
            logits = tf.matmul(head([activations, *beside], training=False), output.kernel) + output.bias
            logit = tf.gather(logits, outputs, batch_dims=1)
        weights = tape.gradient(logit, activations)
        evidence = tf.nn.relu(tf.reduce_sum(weights * activations, axis=-1, keepdims=True))
        maps = tf.image.resize(evidence, (size, size), method="bilinear")[..., 0]
        maps = tf.math.divide_no_nan(maps, tf.reduce_max(maps, axis=(1, 2), keepdims=True))
        # Deep networks with shuffled weights may overflow.
        return tf.where(tf.math.is_finite(maps), maps, 0.0)

    return cast("Callable[[np.ndarray, np.ndarray], Any]", explain)


def _feature_layer(model: Model) -> Layer:
    """Return the deepest layer with ``SIDE`` x ``SIDE`` positions that all paths pass, or the last before the pooling.

    Layers before the first convolution hold the image, not a feature map. Padding layers are skipped, because they
    shift the positions.
    """
    layers = model.layers[: model.layers.index(layer_of(model, POOLED))]
    convolutions = (place for place, layer in enumerate(layers) if isinstance(layer, keras.layers.Conv2D))
    # A transformer is one layer, after the normalisation.
    normalised = (place for place, layer in enumerate(layers, start=1) if layer.name == NORMALISATION)
    first = next(chain(convolutions, normalised))
    maps = [layer for layer in reversed(layers[first:]) if len(layer.output.shape) == 4]
    maps = [layer for layer in maps if not isinstance(layer, keras.layers.ZeroPadding2D)]
    large = [layer for layer in maps if layer.output.shape[1] >= SIDE]
    return next(layer for layer in (*large, *maps) if _leads_to(layer, _pooled_maps(model)[0]))


def _pooled_maps(model: Model) -> list[KerasTensor]:
    """Return the pooled value of each feature map, the last layer first."""
    pooled = layer_of(model, POOLED)
    return pooled.input if isinstance(pooled.input, list) else [pooled.output]


def _leads_to(layer: Layer, tensor: KerasTensor) -> bool:
    try:
        keras.Model(layer.output, tensor)
    except ValueError:
        return False
    return True


class Shuffled:
    """Heat maps of ``SHUFFLES`` copies of a model, in each of which the values of every weight array are shuffled.

    A heat map that does not change reflects the architecture or the image, not the training. See Adebayo et al.,
    "Sanity Checks for Saliency Maps", NeurIPS 2018, arXiv:1810.03292. The model is not changed.
    """

    def __init__(self, model: Model, seed: int) -> None:
        network = network_of(model)
        self._copy = keras.models.clone_model(network)
        self._cam = GradCam(self._copy)
        rng, learnt = np.random.default_rng(seed), network.get_weights()
        self.weights = [
            [rng.permutation(weight.ravel()).reshape(weight.shape) for weight in learnt] for _ in range(SHUFFLES)
        ]

    def heatmaps(self, images: np.ndarray, outputs: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the heat maps of each copy; see `GradCam.heatmaps`."""
        for weights in self.weights:
            self._copy.set_weights(weights)
            yield self._cam.heatmaps(images, outputs)


def explain_images(
    model: Model, images: PreparedImages, explained: pd.DataFrame, boxes: pd.DataFrame, *, seed: int, confidence: float
) -> dict[str, Any]:
    """Evaluate the heat maps of a model against boxes and against heat maps of networks with shuffled weights.

    Only a few batches of the prepared images are in memory at a time. ``explained`` is from `choose_explained`;
    ``boxes`` has ``sha256``, ``class``, ``left``, ``top``, ``right`` and ``bottom`` of each box and may be empty; the
    weights are shuffled with ``seed``.

    Returns:
        ``method``, ``layer``; ``localisation``: the result of `localise` for each class with boxes; ``randomised``:
        ``n_images`` (an image counts once per class), ``n_shuffles``, the mean ``rank_correlation`` of the heat maps
        with those of the shuffled networks, and the ``pointing_game`` of the latter over the images with boxes. The
        last two are ``{"value", "low", "high"}``, or None without such images.
    """
    cam, sanity = GradCam(model), Shuffled(model, seed)
    chunks = [explained.iloc[start : start + _CHUNK] for start in range(0, len(explained), _CHUNK)]
    tracked = track(chunks, "Explaining images", len(explained), size=len)
    parts = [_explain_chunk(cam, sanity, images, chunk, boxes) for chunk in tracked]
    localisation: dict[str, Any] = {}
    correlation = pointing_game = None
    if parts:
        measured = pd.concat(parts, ignore_index=True)
        correlation = measure_mean(measured["rank_correlation"], measured["group"], confidence=confidence, smallest=-1)
        boxed = measured[measured["n_boxes"] > 0]
        if len(boxed):
            pointing_game = measure_mean(boxed["shuffled_pointing_game"], boxed["group"], confidence=confidence)
        for name, rows in boxed.groupby("class", sort=False):
            localisation[str(name)] = localise(rows, rows["group"], confidence=confidence)
    counts = {"n_images": len(explained), "n_shuffles": SHUFFLES}
    randomised = {**counts, "rank_correlation": correlation, "pointing_game": pointing_game}
    return {"method": METHOD, "layer": cam.layer, "localisation": localisation, "randomised": randomised}


def _explain_chunk(
    cam: GradCam, sanity: Shuffled, images: PreparedImages, chunk: pd.DataFrame, boxes: pd.DataFrame
) -> pd.DataFrame:
    """Evaluate the heat maps of a few images: rows of `measure_maps`, null without a box, and more columns."""
    pixels, outputs = images.read(chunk["sha256"].tolist()), chunk["output"].to_numpy()
    maps = cam.heatmaps(pixels, outputs)
    drawn = boxes_of(boxes, chunk["sha256"].tolist(), chunk["class"].tolist())
    boxed = np.flatnonzero([len(image_boxes) > 0 for image_boxes in drawn])
    present = [drawn[index] for index in boxed]
    measures = measure_maps(maps[boxed], present).set_index(boxed)
    hits, correlations = [], []
    for others in sanity.heatmaps(pixels, outputs):
        hits.append(measure_maps(others[boxed], present)["pointing_game"].to_numpy())
        correlations.append(rank_correlation(maps, others))
    rows = chunk[["class", "group"]].reset_index(drop=True).join(measures)
    shuffled = pd.Series(np.mean(hits, axis=0), index=boxed)
    return rows.assign(shuffled_pointing_game=shuffled, rank_correlation=np.mean(correlations, axis=0))
