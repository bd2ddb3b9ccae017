"""Backbones from ``keras.applications``, laid flat into the graph of the model that uses them.

Each one takes grey images as they are stored: the grey becomes red, green and blue, and those become what the
backbone's ImageNet weights were trained on, inside the graph. Layer names are Keras' own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import keras

from cxr_pipeline.common.errors import UserError

if TYPE_CHECKING:
    from keras import KerasTensor, Model


Channels = tuple[float, float, float]

GREY_TO_RGB = "grey_to_rgb"
NORMALISATION = "imagenet_normalisation"


@dataclass(frozen=True)
class Normalisation:
    """From grey values 0..255 to what a backbone was trained on: times ``scale``, plus ``offset``, by channel."""

    scale: Channels
    offset: Channels


# Mean and standard deviation of ImageNet's red, green and blue, in 0..1.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
STANDARDISED = Normalisation(
    scale=(1 / (255 * _STD[0]), 1 / (255 * _STD[1]), 1 / (255 * _STD[2])),
    offset=(-_MEAN[0] / _STD[0], -_MEAN[1] / _STD[1], -_MEAN[2] / _STD[2]),
)
# In the order blue, green, red.
CENTRED = Normalisation(scale=(1.0, 1.0, 1.0), offset=(-103.939, -116.779, -123.68))
MINUS_ONE_TO_ONE = Normalisation(scale=(1 / 127.5, 1 / 127.5, 1 / 127.5), offset=(-1.0, -1.0, -1.0))


@dataclass(frozen=True)
class Backbone:
    """A network without its classifier; call it to lay it into a graph.

    Args:
        name: as in the configuration.
        application: Keras' function that builds it.
        normalisation: what its ImageNet weights were trained on.
        cut: layer from which it is fine-tuned unless the configuration names another; the whole graph passes there.
        levels: layers whose feature maps are pooled beside the last one; the whole graph passes there.
        smallest: smallest side of an image in pixels.
    """

    name: str
    application: Callable[..., Model]
    normalisation: Normalisation
    cut: str
    levels: tuple[str, ...]
    smallest: int = 32

    def __call__(self, image: KerasTensor) -> KerasTensor:
        """Lay the backbone over images.

        Args:
            image: grey images [n, S, S, 1], float in 0..255.

        Returns:
            Feature map [n, h, w, c], h and w about S/32.

        Raises:
            UserError: the images are too small.
        """
        size = image.shape[1]
        if size < self.smallest:
            raise UserError(
                f"{self.name} needs images of at least {self.smallest} pixels a side, resolution.size is {size}: "
                "raise resolution.size, or set model.name to small_cnn."
            )
        rgb = keras.layers.Concatenate(name=GREY_TO_RGB)([image, image, image])
        normalised = keras.layers.Rescaling(
            scale=list(self.normalisation.scale),
            offset=list(self.normalisation.offset),
            dtype="float32",
            name=NORMALISATION,
        )(rgb)
        return self.application(include_top=False, weights=None, input_tensor=normalised).output


BACKBONES = {
    backbone.name: backbone
    for backbone in (
        # Huang et al., "Densely Connected Convolutional Networks", CVPR 2017, arXiv:1608.06993.
        Backbone(
            "densenet121",
            keras.applications.DenseNet121,
            STANDARDISED,
            cut="pool3_pool",
            levels=("pool3_pool", "pool4_pool"),
        ),
        # Simonyan and Zisserman, "Very Deep Convolutional Networks", ICLR 2015, arXiv:1409.1556.
        Backbone("vgg16", keras.applications.VGG16, CENTRED, cut="block4_pool", levels=("block4_pool",)),
        # He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv:1512.03385.
        Backbone(
            "resnet50", keras.applications.ResNet50, CENTRED, cut="conv4_block6_out", levels=("conv4_block6_out",)
        ),
        # Szegedy et al., "Rethinking the Inception Architecture", CVPR 2016, arXiv:1512.00567.
        Backbone(
            "inceptionv3",
            keras.applications.InceptionV3,
            MINUS_ONE_TO_ONE,
            cut="mixed7",
            levels=("mixed7",),
            smallest=75,
        ),
        # Sandler et al., "MobileNetV2", CVPR 2018, arXiv:1801.04381.
        Backbone(
            "mobilenetv2",
            keras.applications.MobileNetV2,
            MINUS_ONE_TO_ONE,
            cut="block_12_add",
            levels=("block_12_add",),
        ),
        # Tan and Le, "EfficientNetV2", ICML 2021, arXiv:2104.00298. Its own normalisation is the same, unnamed.
        Backbone(
            "efficientnetv2b0",
            partial(keras.applications.EfficientNetV2B0, include_preprocessing=False),
            STANDARDISED,
            cut="block5e_add",
            levels=("block5e_add",),
        ),
    )
}
