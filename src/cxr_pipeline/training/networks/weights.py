"""Where pretrained weights come from: a file, the raw data folder, Keras' cache, or the network."""

from __future__ import annotations

import hashlib
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.training.networks.architectures import BACKBONES

BASE_URL = "https://storage.googleapis.com/tensorflow/keras-applications"
REACH_SECONDS = 10.0


@dataclass(frozen=True)
class Published:
    """ImageNet weights that Keras publishes for a backbone without its top.

    Args:
        alias: another name for the same weights, saved again by Keras 3.
        folder: on Keras' server.
        file: Keras' own name of the file.
        md5: of the file, as published by Keras; None where it publishes none.
    """

    alias: str
    folder: str
    file: str
    md5: str | None

    @property
    def url(self) -> str:
        """Where Keras downloads the file."""
        return f"{BASE_URL}/{self.folder}/{self.file}"


_KERNELS = "weights_tf_dim_ordering_tf_kernels"
_FILES = {
    "densenet121": ("densenet", f"densenet121_{_KERNELS}_notop.h5", "30ee3e1110167f948a6b9946edeeb738"),
    "vgg16": ("vgg16", f"vgg16_{_KERNELS}_notop.h5", "6d6bbae143d832006294945121d1f1fc"),
    "resnet50": ("resnet", f"resnet50_{_KERNELS}_notop.h5", "4d473c1dd8becc155b73f8504c6f6626"),
    "inceptionv3": ("inception_v3", f"inception_v3_{_KERNELS}_notop.h5", "bcbd6486424b2319ff4ef7d526e38f63"),
    "mobilenetv2": ("mobilenet_v2", f"mobilenet_v2_{_KERNELS}_1.0_224_no_top.h5", None),
    "efficientnetv2b0": ("efficientnet_v2", "efficientnetv2-b0_notop.h5", "893217f2bb855e2983157299931e43ff"),
}
PUBLISHED = {name: Published(f"{name}_imagenet_notop.weights.h5", *_FILES[name]) for name in BACKBONES}


def check_weights(architecture: str, weights: str, raw: Path, *, task: str) -> None:
    """Make sure, before any work and without TensorFlow, that `find_weights` will succeed.

    Args:
        architecture: name of the network.
        weights: ``none``, ``imagenet`` or a path.
        raw: folder of the raw data.
        task: named in the advice.

    Raises:
        UserError: a file is absent or damaged, or nothing is at hand and the network cannot be reached.
    """
    if _is_at_hand(architecture, weights, raw):
        return
    published = PUBLISHED[architecture]
    request = urllib.request.Request(published.url, method="HEAD")  # noqa: S310 (the address is a constant)
    try:
        urllib.request.urlopen(request, timeout=REACH_SECONDS).close()  # noqa: S310
    except (urllib.error.URLError, OSError) as error:
        raise UserError(
            f"{task}.model.weights is imagenet, but the weights of {architecture} were found neither in "
            f"{raw / 'weights'} nor in {_keras_cache()}, and {published.url} cannot be reached ({error}). Download "
            f"that file where there is a network and put it into {raw / 'weights'}, or go on without it: "
            f"--params {task}.model.name=small_cnn"
        ) from error


def find_weights(architecture: str, weights: str, raw: Path) -> Path | None:
    """Find pretrained weights, and let Keras download them where they are not at hand.

    Args:
        architecture: name of the network.
        weights: ``none``; ``imagenet``, looked for in ``<raw>/weights`` and in Keras' cache before it is
            downloaded; or a path, absolute or relative to the working folder or to ``raw``. A network that
            is always trained from scratch has no ImageNet weights: there ``imagenet`` means ``none``.
        raw: folder of the raw data.

    Returns:
        The file, or None for a network that starts from random weights.

    Raises:
        UserError: the file is absent, damaged, or cannot be downloaded.
    """
    if not is_pretrained(architecture, weights):
        return None
    if weights != "imagenet":
        return _given(weights, raw)
    return _cached(architecture, raw) or _download(PUBLISHED[architecture])


def is_pretrained(architecture: str, weights: str) -> bool:
    """Whether a network starts from a file of weights, by its parameters ``model.name`` and ``model.weights``."""
    return weights != "none" and (weights != "imagenet" or architecture in PUBLISHED)


def content_digest(architecture: str, weights: str, raw: Path) -> str | None:
    """Tell which weights a network starts from, where its parameters do not say it.

    Args:
        architecture: name of the network.
        weights: as `find_weights` takes it.
        raw: folder of the raw data.

    Returns:
        MD5 of the file; None where there is none, or where it is the one that Keras publishes, at hand or not.

    Raises:
        UserError: a file that the user has given is absent or damaged.
    """
    if not is_pretrained(architecture, weights):
        return None
    if weights != "imagenet":
        return _md5(_given(weights, raw))
    file = _cached(architecture, raw)
    return None if file is None or file.name == PUBLISHED[architecture].file else _md5(file)


def _is_at_hand(architecture: str, weights: str, raw: Path) -> bool:
    if weights == "imagenet" and architecture in PUBLISHED:
        return _cached(architecture, raw) is not None
    find_weights(architecture, weights, raw)
    return True


def _given(weights: str, raw: Path) -> Path:
    given = Path(weights).expanduser()
    for path in (given, raw / given):
        if path.is_file():
            _check_readable(path)
            return path
    raise UserError(
        f"model.weights: expected a file of weights (or imagenet, or none), found nothing at {given.absolute()}"
        + ("." if given.is_absolute() else f" nor at {(raw / given).absolute()}.")
    )


def _cached(architecture: str, raw: Path) -> Path | None:
    """The file in the raw folder or in Keras' cache, if it is in either.

    Raises:
        UserError: a file that the user has put into the raw folder is damaged.
    """
    published = PUBLISHED[architecture]
    own, alias = raw / "weights" / published.file, raw / "weights" / published.alias
    if own.is_file():
        _check_whole(own, published)
        return own
    if alias.is_file():
        _check_readable(alias)
        return alias
    cached = _keras_cache() / published.file
    return cached if cached.is_file() and _is_whole(cached, published) else None


def _is_whole(file: Path, published: Published) -> bool:
    try:
        _check_whole(file, published)
    except UserError:
        return False
    return True


def _check_whole(file: Path, published: Published) -> None:
    if published.md5 is None:
        _check_readable(file)
    elif (found := _md5(file)) != published.md5:
        raise UserError(
            f"{file} is damaged or another file: expected the MD5 {published.md5}, found {found}. "
            f"Download it again from {published.url}, or remove it."
        )


def _check_readable(file: Path) -> None:
    from cxr_pipeline.training.networks.weight_files import check_readable

    check_readable(file)


def _download(published: Published) -> Path:
    import keras

    try:
        path = keras.utils.get_file(
            published.file,
            origin=published.url,
            cache_dir=str(_keras_cache().parent),
            cache_subdir="models",
            file_hash=published.md5,
            force_download=True,
        )
        _check_whole(Path(path), published)
    except Exception as error:  # Keras raises a bare Exception where a download fails.
        raise UserError(
            f"{published.url} could not be downloaded ({error}). Run the same command again, or put the file into "
            f"{_keras_cache()} by hand."
        ) from error
    return Path(path)


def _keras_cache() -> Path:
    return Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / "models"


def _md5(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
