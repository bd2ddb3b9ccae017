"""Networks from stored grey images to a feature map, built flat into the graph of the model that uses them.

Backbones come from `keras.applications`, except one. Inside the graph, the grey channel is copied to red, green and
blue, which are scaled as the weights expect, by default those from ImageNet. Layers have Keras' own names. Two networks
are small enough to train from scratch. They standardise each image, so that exposure and contrast have little effect.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import keras

from cxr_pipeline.training.networks import vit

# Keras' default, 0.99, averages over a few hundred steps, which may be the whole training run of a small task.
BATCH_NORMALIZATION_MOMENTUM = 0.9

GREY_TO_RGB = "grey_to_rgb"
NORMALISATION = "normalisation"
IMAGE_STANDARDISATION = "image_standardisation"

# Scale and offset, of all channels or of each, from grey levels 0..255 to the inputs that the weights were trained on.
Normalisation = tuple[float | list[float], float | list[float]]
# Mean and standard deviation of ImageNet's red, green and blue, in 0..1.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
STANDARDISED: Normalisation = (
    [1 / (255 * std) for std in _STD],
    [-mean / std for mean, std in zip(_MEAN, _STD, strict=True)],
)
# In the order blue, green, red.
CENTRED: Normalisation = ([1.0, 1.0, 1.0], [-103.939, -116.779, -123.68])
MINUS_ONE_TO_ONE: Normalisation = ([1 / 127.5] * 3, [-1.0] * 3)
# Normalisations by the published weights that need them.
NORMALISATIONS: dict[str, Normalisation] = {
    "imagenet": STANDARDISED,
    "torchxrayvision": (2048 / 255, -1024.0),
    "jfhealthcare": (1 / 64, -2.0),
}


@dataclass(frozen=True)
class Backbone:
    """A network without its classifier; call it to add its layers to a graph.

    ``cut`` is the default layer from which it is fine-tuned, which no path of the graph bypasses. Feature maps of
    ``more_levels`` can be pooled besides those of the cut and of the last layer.
    """

    name: str
    features: Callable[[keras.KerasTensor], keras.KerasTensor]
    normalisation: Normalisation
    cut: str
    more_levels: tuple[str, ...] = ()

    def __call__(self, image: keras.KerasTensor, normalisation: Normalisation | None = None) -> keras.KerasTensor:
        """Apply the backbone to grey images [n, S, S, 1], in 0..255: a feature map [n, h, w, c], h and w about S/32."""
        rgb = keras.layers.Concatenate(name=GREY_TO_RGB)([image, image, image])
        scale, offset = normalisation or self.normalisation
        return self.features(keras.layers.Rescaling(scale, offset, dtype="float32", name=NORMALISATION)(rgb))


def _published(application: Callable[..., keras.Model], image: keras.KerasTensor, **options: bool) -> keras.KerasTensor:
    return application(include_top=False, weights=None, input_tensor=image, **options).output


def _resnet50v1_5(image: keras.KerasTensor) -> keras.KerasTensor:
    """Apply ResNet50 as in PyTorch, which halves the resolution of a block in its 3 x 3 convolution.

    In ``keras.applications``, the first 1 x 1 convolution does. All weights of one fit the other, but give other
    features. See `ResNet v1.5 <https://catalog.ngc.nvidia.com/orgs/nvidia/resources/resnet_50_v1_5_for_pytorch>`_.
    """
    layers = keras.layers

    def convolve(x: keras.KerasTensor, name: str, filters: int, size: int, strides: int = 1) -> keras.KerasTensor:
        x = layers.ZeroPadding2D(size // 2, name=f"{name}_pad")(x) if size > 1 else x
        x = layers.Conv2D(filters, size, strides=strides, use_bias=False, name=f"{name}_conv")(x)
        return layers.BatchNormalization(epsilon=1e-5, name=f"{name}_bn")(x)

    x = layers.ReLU(name="conv1_relu")(convolve(image, "conv1", 64, 7, 2))
    x = layers.MaxPooling2D(3, strides=2, name="pool1_pool")(layers.ZeroPadding2D(1, name="pool1_pad")(x))
    for stage, n_blocks in enumerate((3, 4, 6, 3), start=2):
        filters = 2 ** (stage + 4)
        for block in range(1, n_blocks + 1):
            name, strides = f"conv{stage}_block{block}", 2 if block == 1 and stage > 2 else 1
            shortcut = convolve(x, f"{name}_0", 4 * filters, 1, strides) if block == 1 else x
            x = layers.ReLU(name=f"{name}_1_relu")(convolve(x, f"{name}_1", filters, 1))
            x = layers.ReLU(name=f"{name}_2_relu")(convolve(x, f"{name}_2", filters, 3, strides))
            x = layers.Add(name=f"{name}_add")([shortcut, convolve(x, f"{name}_3", 4 * filters, 1)])
            x = layers.ReLU(name=f"{name}_out")(x)
    return x


_APPLICATIONS = keras.applications
_BACKBONES = (
    # Huang et al., "Densely Connected Convolutional Networks", CVPR 2017, arXiv:1608.06993.
    Backbone(
        "densenet121",
        partial(_published, _APPLICATIONS.DenseNet121),
        STANDARDISED,
        cut="pool3_pool",
        more_levels=("pool4_pool",),
    ),
    # Simonyan and Zisserman, "Very Deep Convolutional Networks", ICLR 2015, arXiv:1409.1556.
    Backbone("vgg16", partial(_published, _APPLICATIONS.VGG16), CENTRED, cut="block4_pool"),
    # He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv:1512.03385.
    Backbone("resnet50", partial(_published, _APPLICATIONS.ResNet50), CENTRED, cut="conv4_block6_out"),
    Backbone("resnet50v1_5", _resnet50v1_5, STANDARDISED, cut="conv4_block6_out"),
    # Szegedy et al., "Rethinking the Inception Architecture", CVPR 2016, arXiv:1512.00567.
    Backbone("inceptionv3", partial(_published, _APPLICATIONS.InceptionV3), MINUS_ONE_TO_ONE, cut="mixed7"),
    # Sandler et al., "MobileNetV2", CVPR 2018, arXiv:1801.04381.
    Backbone("mobilenetv2", partial(_published, _APPLICATIONS.MobileNetV2), MINUS_ONE_TO_ONE, cut="block_12_add"),
    # Tan and Le, "EfficientNetV2", ICML 2021, arXiv:2104.00298. Its own preprocessing layers are the same, unnamed.
    Backbone(
        "efficientnetv2b0",
        partial(_published, _APPLICATIONS.EfficientNetV2B0, include_preprocessing=False),
        STANDARDISED,
        cut="block5e_add",
    ),
    Backbone(vit.NAME, vit.vision_transformer, STANDARDISED, cut=vit.FEATURES),
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
