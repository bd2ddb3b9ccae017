"""Networks from stored grey images to a feature map, built flat into the graph of the model that uses them.

Backbones come from `keras.applications`. Inside the graph, the grey channel is copied to red, green and blue, which are
scaled as the backbone's ImageNet weights expect. Layers have Keras' own names. Two networks are small enough to train
from scratch. They standardise each image, so that exposure and contrast have little effect.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import keras

# Keras' default, 0.99, averages over a few hundred steps, which may be the whole training run of a small task.
BATCH_NORMALIZATION_MOMENTUM = 0.9

GREY_TO_RGB = "grey_to_rgb"
NORMALISATION = "imagenet_normalisation"
IMAGE_STANDARDISATION = "image_standardisation"

# Scale and offset of each channel, from grey levels 0..255 to the inputs that the weights were trained on.
Normalisation = tuple[list[float], list[float]]
# Mean and standard deviation of ImageNet's red, green and blue, in 0..1.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
STANDARDISED: Normalisation = (
    [1 / (255 * std) for std in _STD],
    [-mean / std for mean, std in zip(_MEAN, _STD, strict=True)],
)
# In the order blue, green, red.
CENTRED: Normalisation = ([1.0, 1.0, 1.0], [-103.939, -116.779, -123.68])
MINUS_ONE_TO_ONE: Normalisation = ([1 / 127.5] * 3, [-1.0] * 3)


@dataclass(frozen=True)
class Backbone:
    """A network without its classifier; call it to add its layers to a graph.

    ``cut`` is the default layer from which it is fine-tuned, which no path of the graph bypasses. Feature maps of
    ``more_levels`` can be pooled besides those of the cut and of the last layer.
    """

    name: str
    application: Callable[..., keras.Model]
    normalisation: Normalisation
    cut: str
    more_levels: tuple[str, ...] = ()

    def __call__(self, image: keras.KerasTensor) -> keras.KerasTensor:
        """Apply the backbone to grey images [n, S, S, 1], in 0..255: a feature map [n, h, w, c], h and w about S/32."""
        rgb = keras.layers.Concatenate(name=GREY_TO_RGB)([image, image, image])
        scale, offset = self.normalisation
        normalised = keras.layers.Rescaling(scale, offset, dtype="float32", name=NORMALISATION)(rgb)
        return self.application(include_top=False, weights=None, input_tensor=normalised).output


_APPLICATIONS = keras.applications
_BACKBONES = (
    # Huang et al., "Densely Connected Convolutional Networks", CVPR 2017, arXiv:1608.06993.
    Backbone("densenet121", _APPLICATIONS.DenseNet121, STANDARDISED, cut="pool3_pool", more_levels=("pool4_pool",)),
    # Simonyan and Zisserman, "Very Deep Convolutional Networks", ICLR 2015, arXiv:1409.1556.
    Backbone("vgg16", _APPLICATIONS.VGG16, CENTRED, cut="block4_pool"),
    # He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv:1512.03385.
    Backbone("resnet50", _APPLICATIONS.ResNet50, CENTRED, cut="conv4_block6_out"),
    # Szegedy et al., "Rethinking the Inception Architecture", CVPR 2016, arXiv:1512.00567.
    Backbone("inceptionv3", _APPLICATIONS.InceptionV3, MINUS_ONE_TO_ONE, cut="mixed7"),
    # Sandler et al., "MobileNetV2", CVPR 2018, arXiv:1801.04381.
    Backbone("mobilenetv2", _APPLICATIONS.MobileNetV2, MINUS_ONE_TO_ONE, cut="block_12_add"),
    # Tan and Le, "EfficientNetV2", ICML 2021, arXiv:2104.00298. Its own preprocessing layers are the same, unnamed.
    Backbone(
        "efficientnetv2b0",
        partial(_APPLICATIONS.EfficientNetV2B0, include_preprocessing=False),
        STANDARDISED,
        cut="block5e_add",
    ),
)
BACKBONES = {backbone.name: backbone for backbone in _BACKBONES}


def blocks(image: keras.KerasTensor, *, filters: Sequence[int], convolutions: int) -> keras.KerasTensor:
    """Apply blocks of 3 x 3 convolutions, batch normalisation and ReLU with max pooling between them.

    Grey images [n, S, S, 1], in 0..255, become a feature map [n, S/32, S/32, c] after five blocks.
    """
    layers = keras.layers
    features = layers.LayerNormalization(
        axis=[1, 2, 3], center=False, scale=False, epsilon=1e-3, dtype="float32", name=IMAGE_STANDARDISATION
    )(image)
    for block, n_filters in enumerate(filters, start=1):
        if block > 1:
            features = layers.MaxPooling2D(2, padding="same", name=f"block{block - 1}_pool")(features)
        for step in range(1, convolutions + 1):
            name, strides = f"block{block}_conv{step}", 2 if block == step == 1 else 1
            options = {"padding": "same", "use_bias": False, "kernel_initializer": "he_normal"}
            features = layers.Conv2D(n_filters, 3, strides=strides, name=name, **options)(features)
            features = layers.BatchNormalization(momentum=BATCH_NORMALIZATION_MOMENTUM, name=f"{name}_bn")(features)
            features = layers.ReLU(name=f"{name}_relu")(features)
    return features


NETWORKS: dict[str, Callable[[keras.KerasTensor], keras.KerasTensor]] = {
    # 170,000 parameters, for small images and the demo.
    "small_cnn": partial(blocks, filters=(16, 24, 48, 96, 128), convolutions=1),
    # 3.4 million parameters.
    "cnn": partial(blocks, filters=(32, 64, 128, 256, 384), convolutions=2),
    **BACKBONES,
}
