"""The vision transformer ViT-B/14 of DINOv2, from KerasHub; RAD-DINO has the same layout.

References:
    Oquab et al., "DINOv2: Learning Robust Visual Features without Supervision", TMLR 2024, arXiv:2304.07193.
    Perez-Garcia et al., "Exploring scalable medical image encoders beyond text supervision", Nature Machine
    Intelligence 7, 2025 (RAD-DINO).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.training.networks.weights import PATCH
from cxr_pipeline.training.networks.weights import TRANSFORMER as NAME

FEATURES = "patches_and_class"
_TRANSFORMER = "transformer"
_VIT_B = {"num_layers": 12, "hidden_dim": 768, "num_heads": 12, "intermediate_dim": 3072}


def vision_transformer(image: keras.KerasTensor) -> keras.KerasTensor:
    """Apply the transformer to images [n, S, S, 3], where S is a multiple of 14.

    The feature map [n, S/14, S/14, 1536] has the tokens of the patches and, equal at all places, that of the image, so
    that the average over the map is what DINOv2 uses for classification.

    Raises:
        UserError: KerasHub is not installed.
    """
    layers, size = keras.layers, int(image.shape[1])
    shapes = {"image_shape": (size, size, 3), "position_embedding_shape": (518, 518)}
    transformer = _keras_hub().models.DINOV2Backbone(patch_size=PATCH, **_VIT_B, **shapes, name=_TRANSFORMER)
    tokens, side = transformer({"images": image}), size // PATCH
    of_image = layers.UpSampling1D(side**2, name="class_token")(tokens[:, :1])
    both = layers.Concatenate(name="tokens")([tokens[:, 1:], of_image])
    return layers.Reshape((side, side, 2 * _VIT_B["hidden_dim"]), name=FEATURES)(both)


def load_transformer(backbone: keras.Model, file: Path) -> list[str]:
    """Load ``model.safetensors`` of Hugging Face, which has its ``config.json`` beside it; return an empty list.

    Raises:
        ValueError: it is another network.
    """
    transformer: Any = backbone.get_layer(_TRANSFORMER)
    if file.name != "model.safetensors" or not (file.parent / "config.json").is_file():
        raise ValueError("expected the name model.safetensors, and a file config.json beside it")
    shape = transformer.image_shape
    source = _keras_hub().models.DINOV2Backbone.from_preset(str(file.parent), image_shape=shape)
    transformer.set_weights(source.get_weights())
    return []


def _keras_hub() -> Any:
    try:
        import keras_hub  # type: ignore[import-untyped]
    except ModuleNotFoundError as error:
        raise UserError(
            f"model.name is {NAME}, which needs KerasHub. Install it: pip install 'cxr_pipeline[vit]', or keras-hub."
        ) from error
    return keras_hub
