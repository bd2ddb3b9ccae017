"""Where a model looks: Grad-CAM, and whether its maps depend on what the model has learnt."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from cxr_pipeline.evaluation.bootstrap import bootstrap_mean
from cxr_pipeline.evaluation.localisation import boxes_of, localise, measure_maps, rank_correlation
from cxr_pipeline.training.features import Images
from cxr_pipeline.training.networks.heads import OUTPUT, POOLED

if TYPE_CHECKING:
    from keras import KerasTensor, Layer, Model


METHOD = "Grad-CAM with a weight for each place (HiResCAM)"
BATCH_SIZE = 16
SIDE = 12
# One shuffled network may happen to favour the place where a finding lies.
SHUFFLES = 5
_CHUNK = 4 * BATCH_SIZE


class GradCam:
    """Maps of the evidence that a model finds for one of its outputs.

    A feature map is summed over its channels, each weighted at each place by the gradient that the output's logit has
    there; what is left above zero is the map. The logit is taken and not the probability, because a sigmoid or softmax
    that is sure of itself has no gradient. The map is that of the deepest layer that still has ``SIDE`` places across,
    because the last one of a network, 7 x 7 of an image of 224 pixels, is too coarse for a small effusion. So far below
    the output the weights of Grad-CAM, one for each channel, no longer tell where; those of HiResCAM do.

    Args:
        model: from `build_model`; it is not changed, and the maps follow its weights when these change.

    Attributes:
        layer: name of the layer whose feature map is read.

    References:
        Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV
        2017, arXiv:1610.02391.
        Draelos and Carin, "Use HiResCAM instead of Grad-CAM for faithful explanations of convolutional neural
        networks", arXiv:2011.08891.

    Example:
        >>> GradCam(model).heatmaps(images, output=0).shape  # doctest: +SKIP
        (3, 224, 224)
    """

    def __init__(self, model: Model) -> None:
        layer, output = _feature_layer(model), model.get_layer(OUTPUT)
        passing = [layer.output, *_shortcuts(layer, model)]
        lower, head = keras.Model(model.input, passing), keras.Model(passing, output.input)
        self.layer: str = layer.name
        self._size = int(model.input_shape[1])
        self._n_outputs = int(model.output_shape[-1])
        image = tf.TensorSpec((None, self._size, self._size), tf.uint8)

        @tf.function(input_signature=(image, tf.TensorSpec((None,), tf.int32)))  # type: ignore[untyped-decorator]
        def explain(images: Any, outputs: Any) -> Any:
            activations, *beside = tf.nest.flatten(lower(tf.cast(images[..., tf.newaxis], tf.float32), training=False))
            activations = tf.cast(activations, tf.float32)
            with tf.GradientTape() as tape:
                tape.watch(activations)
                hidden = tf.cast(head([activations, *beside], training=False), tf.float32)
                logits = tf.matmul(hidden, output.kernel) + output.bias
                logit = tf.gather(logits, outputs, batch_dims=1)
            weights = tape.gradient(logit, activations)
            evidence = tf.nn.relu(tf.reduce_sum(weights * activations, axis=-1, keepdims=True))
            maps = tf.image.resize(evidence, (self._size, self._size), method="bilinear")[..., 0]
            maps = tf.math.divide_no_nan(maps, tf.reduce_max(maps, axis=(1, 2), keepdims=True))
            # Deep networks with shuffled weights may overflow.
            return tf.where(tf.math.is_finite(maps), maps, 0.0)

        self._explain = explain

    def heatmaps(self, images: np.ndarray, output: int | np.ndarray, batch_size: int = BATCH_SIZE) -> np.ndarray:
        """Draw the map of each image; the images beside it make no difference.

        Args:
            images: grey images [n, S, S], uint8, S as the model takes them.
            output: the place of the output that is asked about among the model's outputs; or one for each image, int
                [n].
            batch_size: images at a time; fewer are filled up to it.

        Returns:
            Maps [n, S, S], float32, 0..1, the maximum of each 1. A map without any evidence for the output is all
            zeros, and so is one whose numbers overflow.

        Raises:
            ValueError: the images are of another size or type, or the model has no such output.
        """
        outputs = np.broadcast_to(np.asarray(output, np.int32), len(images))
        self._check(images, outputs)
        maps = np.empty(images.shape, np.float32)
        batch, asked = np.zeros((batch_size, *images.shape[1:]), np.uint8), np.zeros(batch_size, np.int32)
        for start in range(0, len(images), batch_size):
            n = min(batch_size, len(images) - start)
            batch[:n], asked[:n] = images[start : start + n], outputs[start : start + n]
            maps[start : start + n] = self._explain(batch, asked)[:n]
        return maps

    def _check(self, images: np.ndarray, outputs: np.ndarray) -> None:
        if images.dtype != np.uint8 or images.shape[1:] != (self._size, self._size):
            raise ValueError(
                f"expected uint8 images [n, {self._size}, {self._size}]. Received: {images.dtype} {images.shape}"
            )
        if ((outputs < 0) | (outputs >= self._n_outputs)).any():
            raise ValueError(f"expected outputs in 0..{self._n_outputs - 1}. Received: {np.unique(outputs)}")


def _feature_layer(model: Model) -> Layer:
    """The deepest layer with ``SIDE`` places across through which all paths lead, or the last before the pooling.

    What lies below the first convolution is the image and no feature map. Padding is passed over, because it moves the
    places of its map.
    """
    layers = model.layers[: [layer.name for layer in model.layers].index(POOLED)]
    first = next(place for place, layer in enumerate(layers) if isinstance(layer, keras.layers.Conv2D))
    for layer in reversed(layers[first:]):
        shape = tuple(layer.output.shape)
        is_map = len(shape) == 4 and not isinstance(layer, keras.layers.ZeroPadding2D)
        if is_map and shape[1] >= SIDE and _is_bottleneck(layer, model):
            return layer
    return layers[-1]


def _is_bottleneck(layer: Layer, model: Model) -> bool:
    return _leads_to(layer, _pooled_maps(model)[0])


def _shortcuts(layer: Layer, model: Model) -> list[KerasTensor]:
    """Pooled maps from below a layer: what reaches the output past it, which the layer's map does not explain."""
    return [pooled for pooled in _pooled_maps(model) if not _leads_to(layer, pooled)]


def _pooled_maps(model: Model) -> list[KerasTensor]:
    """What is pooled of each feature map, the last one first."""
    pooled = model.get_layer(POOLED)
    return pooled.input if isinstance(pooled.input, list) else [pooled.output]


def _leads_to(layer: Layer, tensor: KerasTensor) -> bool:
    try:
        keras.Model(layer.output, tensor)
    except ValueError:
        return False
    return True


class Shuffled:
    """Maps of a model's build without what it has learnt: of copies whose weights are shuffled.

    Each array of weights is shuffled within itself, the head's too. Every layer keeps the distribution of
    its weights and loses what they learnt, so that a map which stays the same shows the network's build or the image,
    not what the model knows.

    Args:
        model: left as it is.
        seed: decides the orders.

    Attributes:
        weights: of each of the ``SHUFFLES`` copies.

    References:
        Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018, arXiv:1810.03292.
    """

    def __init__(self, model: Model, seed: int) -> None:
        self._copy = keras.models.clone_model(model)
        self._cam = GradCam(self._copy)
        rng, learnt = np.random.default_rng(seed), model.get_weights()
        self.weights = [
            [rng.permutation(weight.ravel()).reshape(weight.shape) for weight in learnt] for _ in range(SHUFFLES)
        ]

    def heatmaps(self, images: np.ndarray, outputs: np.ndarray) -> Iterator[np.ndarray]:
        """Draw the maps of each copy, as `GradCam.heatmaps` does."""
        for weights in self.weights:
            self._copy.set_weights(weights)
            yield self._cam.heatmaps(images, outputs)


def explain_images(
    model: Model,
    images: Images,
    explained: pd.DataFrame,
    boxes: pd.DataFrame,
    *,
    replicates: int,
    confidence: float,
    seed: int,
) -> dict[str, Any]:
    """Measure a model's maps against boxes, and against those of the same network with weights shuffled several times.

    Args:
        model: from `build_model` or `fit`.
        images: the prepared images; a few batches of them are in memory at a time.
        explained: from `choose_explained`: ``sha256``, ``class``, ``output``, ``group``.
        boxes: ``sha256``, ``class``, ``left``, ``top``, ``right``, ``bottom``; may be empty.
        replicates: how often patients are drawn for the intervals.
        confidence: of the intervals, in (0, 1).
        seed: of the draws and of the shuffled weights.

    Returns:
        ``method``, ``layer``; ``localisation``: for each class that has boxes what `localise` gives; ``randomised``:
        ``n_images`` (an image counts for each class that it is asked about), ``n_shuffles``, ``rank_correlation`` of the
        model's maps with those of the shuffled ones, in the mean, and ``pointing_game`` of the latter over the images of
        all classes with boxes, None where there are none. The last two are ``{"value", "low", "high"}``, or None
        without images.
    """
    bootstrap: dict[str, Any] = {"replicates": replicates, "confidence": confidence, "seed": seed}
    cam, sanity = GradCam(model), Shuffled(model, seed)
    chunks = [explained.iloc[start : start + _CHUNK] for start in range(0, len(explained), _CHUNK)]
    parts = [_explain_chunk(cam, sanity, images, chunk, boxes) for chunk in chunks]
    localisation: dict[str, Any] = {}
    randomised: dict[str, Any] = {
        "n_images": len(explained),
        "n_shuffles": SHUFFLES,
        "rank_correlation": None,
        "pointing_game": None,
    }
    if parts:
        measured = pd.concat(parts, ignore_index=True)
        randomised["rank_correlation"] = bootstrap_mean(measured["rank_correlation"], measured["group"], **bootstrap)
        boxed = measured[measured["n_boxes"] > 0]
        if len(boxed):
            randomised["pointing_game"] = bootstrap_mean(boxed["shuffled_pointing_game"], boxed["group"], **bootstrap)
        for name, rows in boxed.groupby("class", sort=False):
            localisation[str(name)] = localise(rows, rows["group"], **bootstrap)
    return {"method": METHOD, "layer": cam.layer, "localisation": localisation, "randomised": randomised}


def _explain_chunk(
    cam: GradCam, sanity: Shuffled, images: Images, chunk: pd.DataFrame, boxes: pd.DataFrame
) -> pd.DataFrame:
    """Measure the maps of a few images: the rows of `measure_maps`, null where an image has no box, and three columns."""
    pixels, outputs = images.read(chunk["sha256"].tolist()), chunk["output"].to_numpy()
    maps = cam.heatmaps(pixels, outputs)
    drawn = boxes_of(boxes, chunk["sha256"].tolist(), chunk["class"].tolist())
    boxed = np.flatnonzero([len(found) > 0 for found in drawn])
    its_boxes = [drawn[place] for place in boxed]
    measures = measure_maps(maps[boxed], its_boxes).set_index(boxed)
    hits, correlations = [], []
    for others in sanity.heatmaps(pixels, outputs):
        hits.append(measure_maps(others[boxed], its_boxes)["pointing_game"].to_numpy())
        correlations.append(rank_correlation(maps, others))
    return (
        chunk[["class", "group"]]
        .reset_index(drop=True)
        .join(measures)
        .assign(
            shuffled_pointing_game=pd.Series(np.mean(hits, axis=0), index=boxed),
            rank_correlation=np.mean(correlations, axis=0),
        )
    )
