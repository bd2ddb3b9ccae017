"""Check before any work that a network can be built and trained as configured."""

from pathlib import Path

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.training.networks.architectures import SMALLEST_SIZES
from cxr_pipeline.training.networks.weights import check_weights, find_weights, is_pretrained


def check_network(name: str, *, weights: str, size: int, cut: str | None, raw: Path, task: str) -> None:
    """Check the size of the images, the weights, and the layer from which a pretrained backbone is fine-tuned.

    The network is built, which takes seconds, only if the weights are a file or the layer ``cut`` is given. ``size`` is
    the side of an image in pixels; ``task`` is named in messages.

    Raises:
        UserError: the images are too small, or the weights or the layer cannot be used.
    """
    if size < SMALLEST_SIZES[name]:
        raise UserError(
            f"{task}.resolution.size is {size}, but {name} needs images of at least {SMALLEST_SIZES[name]} pixels per "
            f"side. Increase it, or use a network for small images: --params {task}.model.name=small_cnn"
        )
    check_weights(name, weights, raw, task=task)
    if not is_pretrained(name, weights) or (weights == "imagenet" and cut is None):
        return
    from cxr_pipeline.training.networks.build import build_model
    from cxr_pipeline.training.phases import cut_layer

    file = None if weights == "imagenet" else find_weights(name, weights, raw)
    cut_layer(build_model(name=name, weights_file=file, size=size, cut=cut), cut)
