"""Names of the networks, importable without Keras."""

SMALL_NETWORKS = ("small_cnn", "cnn")
BACKBONES = ("densenet121", "vgg16", "resnet50", "inceptionv3", "mobilenetv2", "efficientnetv2b0")
ARCHITECTURES = (*SMALL_NETWORKS, *BACKBONES)
