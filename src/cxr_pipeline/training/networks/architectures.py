"""Names of the networks and the sizes of their images, importable without Keras."""

SMALL_NETWORKS = ("small_cnn", "cnn")
BACKBONES = ("densenet121", "vgg16", "resnet50", "inceptionv3", "mobilenetv2", "efficientnetv2b0")
ARCHITECTURES = (*SMALL_NETWORKS, *BACKBONES)
# Smallest side of an image in pixels.
SMALLEST_SIZES = {**dict.fromkeys(SMALL_NETWORKS, 1), **dict.fromkeys(BACKBONES, 32), "inceptionv3": 75}
