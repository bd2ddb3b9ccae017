"""Backbones from `keras.applications`, built flat into the graph of the model that uses them.

Each takes stored grey images. Inside the graph, the grey channel is copied to red, green and blue, which are scaled as
the backbone's ImageNet weights expect. Layers have Keras' own names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import keras

GREY_TO_RGB = "grey_to_rgb"
NORMALISATION = "imagenet_normalisation"

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

    Args:
        application: Keras' function that builds the network.
        normalisation: scale and offset that its ImageNet weights expect.
        cut: default layer from which it is fine-tuned; no path of the graph bypasses it.
        more_levels: layers whose feature maps can be pooled besides those of the cut and of the last layer.
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
