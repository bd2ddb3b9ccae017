"""Pretrained weights of a backbone: find their file and check it.

A file is searched in the raw data folder and in Keras' cache, and otherwise downloaded into the latter. Keras itself is
not imported, so that the weights of a run can be checked without it.
"""

from __future__ import annotations

import hashlib
import os
import urllib.request
from pathlib import Path
from typing import NamedTuple

from cxr_pipeline.common.errors import UserError

BASE_URL = "https://storage.googleapis.com/tensorflow/keras-applications"
# Name of a file with the published weights of a backbone in the format of Keras 3.
KERAS_3_FILE = "{}_imagenet_notop.weights.h5"
TIMEOUT_SECONDS = 10.0


class PublishedWeights(NamedTuple):
    """ImageNet weights that Keras publishes for a backbone without its top, with an MD5 or None."""

    path: str
    md5: str | None

    @property
    def file(self) -> str:
        """Keras' name of the file."""
        return self.path.rpartition("/")[2]

    @property
    def url(self) -> str:
        """Address of the file."""
        return f"{BASE_URL}/{self.path}"


_KERNELS = "weights_tf_dim_ordering_tf_kernels"
_FILES = {
    "densenet121": (f"densenet/densenet121_{_KERNELS}_notop.h5", "30ee3e1110167f948a6b9946edeeb738"),
    "vgg16": (f"vgg16/vgg16_{_KERNELS}_notop.h5", "6d6bbae143d832006294945121d1f1fc"),
    "resnet50": (f"resnet/resnet50_{_KERNELS}_notop.h5", "4d473c1dd8becc155b73f8504c6f6626"),
    "inceptionv3": (f"inception_v3/inception_v3_{_KERNELS}_notop.h5", "bcbd6486424b2319ff4ef7d526e38f63"),
    "mobilenetv2": (f"mobilenet_v2/mobilenet_v2_{_KERNELS}_1.0_224_no_top.h5", None),
    "efficientnetv2b0": ("efficientnet_v2/efficientnetv2-b0_notop.h5", "893217f2bb855e2983157299931e43ff"),
}
PUBLISHED = {name: PublishedWeights(*file) for name, file in _FILES.items()}

SMALL_NETWORKS = ("small_cnn", "cnn")
# A transformer and the side of its patches in pixels, and the networks whose head alone is trained.
TRANSFORMER, PATCH = "dinov2_vitb14", 14
FROZEN = (TRANSFORMER,)
ARCHITECTURES = (*SMALL_NETWORKS, *PUBLISHED, "resnet50v1_5", *FROZEN)
# Smallest side of an image in pixels.
SMALLEST_SIZES = {
    **dict.fromkeys(ARCHITECTURES, 32),
    **dict.fromkeys(SMALL_NETWORKS, 1),
    "inceptionv3": 75,
    TRANSFORMER: 2 * PATCH,
}

# Beginning of the URI of a registered version.
VERSION = "models:/"
CARD_SUFFIXES = (".yml", ".yaml", ".json")
_PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".tar", ".pkl", ".pickle")
# First bytes of pickles and of the archives in which PyTorch stores them.
_PICKLE_BYTES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_CONVERT = """\
import torch; from safetensors.torch import save_file
loaded = torch.load("{name}", map_location="cpu", weights_only=False); loaded = getattr(loaded, "state_dict", lambda: loaded)()
save_file({{k: v.float().contiguous() for k, v in loaded.get("state_dict", loaded).items() if hasattr(v, "contiguous")}}, "{stem}.safetensors")"""  # noqa: E501


def is_pretrained(architecture: str, weights: str) -> bool:
    """Return whether a network with these values of ``model.name`` and ``model.weights`` starts from a weights file.

    For networks that are trained from scratch, ``imagenet`` means ``none``.
    """
    return weights != "none" and (weights != "imagenet" or architecture not in SMALL_NETWORKS)


def is_version(weights: str) -> bool:
    """Return whether a value of ``model.weights`` is the URI of a registered version."""
    return weights.startswith(VERSION)


def find_card(file: Path) -> Path | None:
    """Return the file that describes a weights file: of the same name, with .yml, .yaml or .json after it."""
    return next((card for suffix in CARD_SUFFIXES if (card := Path(f"{file}{suffix}")).is_file()), None)


def check_weights(architecture: str, weights: str, raw: Path, *, task: str) -> None:
    """Raise `UserError` before any work, without TensorFlow, if `find_weights` will not succeed for a task."""
    if is_version(weights) or not is_pretrained(architecture, weights) or _find_local(architecture, weights, raw):
        return
    url = PUBLISHED[architecture].url
    request = urllib.request.Request(url, method="HEAD")  # noqa: S310 (the address is a constant)
    try:
        urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS).close()  # noqa: S310
    except OSError as error:
        raise UserError(
            f"{task}.model.weights is imagenet, but the weights of {architecture} are neither in {raw / 'weights'} "
            f"nor in {_keras_cache()}, and {url} cannot be reached ({error}). Download that file elsewhere and put it "
            f"into {raw / 'weights'}, or use a network without pretrained weights: "
            f"--params {task}.model.name=small_cnn"
        ) from error


def find_weights(architecture: str, weights: str, raw: Path) -> Path | None:
    """Return the file of pretrained weights, or None for a network that starts from random weights.

    ``weights`` is ``none``; ``imagenet``, looked for in ``<raw>/weights`` and in Keras' cache before it is downloaded;
    or a path, absolute or relative to the working folder or to `raw`, the folder of the raw data. `UserError` is raised
    if the file is missing, damaged or a pickle, or cannot be downloaded.
    """
    if not is_pretrained(architecture, weights):
        return None
    return _find_local(architecture, weights, raw) or _download(PUBLISHED[architecture])


def content_digest(architecture: str, weights: str, raw: Path) -> str | None:
    """Return the MD5 of the weights file, with that of its card if it has one.

    It is None without a file, for the file that Keras publishes, and for a registered version, which never changes.
    """
    if is_version(weights) or not is_pretrained(architecture, weights):
        return None
    file = _find_local(architecture, weights, raw)
    if file is None or (weights == "imagenet" and file.name == PUBLISHED[architecture].file):
        return None
    card = find_card(file)
    return _md5(file) if card is None else f"{_md5(file)} {_md5(card)}"


def _find_local(architecture: str, weights: str, raw: Path) -> Path | None:
    """Return a file on this machine, or None if it must be downloaded."""
    if weights == "imagenet" and architecture not in PUBLISHED:
        raise UserError(
            f"model.weights is imagenet, but Keras publishes no weights of {architecture}. Give a file "
            "(model.weights=FILE.safetensors), or set model.weights to none."
        )
    if weights == "imagenet":
        published = PUBLISHED[architecture]
        for name, md5 in ((published.file, published.md5), (KERAS_3_FILE.format(architecture), None)):
            if (path := raw / "weights" / name).is_file():
                return _check_defects(path, md5)
        cached = _keras_cache() / published.file
        # A damaged file in the cache is downloaded again, because it was not provided by the user.
        return cached if cached.is_file() and _find_defect(cached, published.md5) is None else None
    if architecture in SMALL_NETWORKS:
        raise UserError(
            f"model.weights is {weights}, but {architecture} takes no pretrained weights: set model.weights to none, "
            f"or model.name to one of {', '.join(ARCHITECTURES[len(SMALL_NETWORKS) :])}."
        )
    candidates = dict.fromkeys(folder / Path(weights).expanduser() for folder in (Path.cwd(), raw.absolute()))
    for path in candidates:
        if path.is_file():
            return _check_defects(path)
    raise UserError(
        "model.weights: expected a weights file, imagenet or none; found no file at "
        f"{' or '.join(map(str, candidates))}."
    )


def _check_defects(path: Path, md5: str | None = None) -> Path:
    if md5 is None and _is_pickle(path):
        raise UserError(
            f"model.weights: {path} is a pickle of PyTorch, which can run any code when it is read. Expected "
            ".safetensors, .weights.h5 or .h5. If you trust the file, convert it where PyTorch is installed:\n"
            f"{_CONVERT.format(name=path.name, stem=path.stem)}"
        )
    if defect := _find_defect(path, md5):
        raise UserError(
            f"model.weights: {path} is damaged or not a weights file ({defect}). Replace it, give another file, or "
            "set model.weights to none."
        )
    return path


def _is_pickle(path: Path) -> bool:
    try:
        with path.open("rb") as content:
            start = content.read(4)
    except OSError:  # explained by the reader
        return False
    archive = path.suffix == ".keras"  # of Keras, without a pickle
    return path.suffix in _PICKLES or (not archive and start.startswith(_PICKLE_BYTES))


def _find_defect(path: Path, md5: str | None) -> str | None:
    """Compare the MD5 if one is published; otherwise check that the file has its format and the length in its header.

    A whole model is checked when it is loaded.
    """
    if md5 is not None:
        actual = _md5(path)
        return None if actual == md5 else f"expected the MD5 {md5}, found {actual}"
    import h5py  # type: ignore[import-untyped]
    from safetensors import SafetensorError, safe_open

    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="numpy"):
                pass
        elif path.suffix != ".keras":
            h5py.File(path).close()
    except (OSError, SafetensorError) as error:
        return " ".join(str(error).split())
    return None


def _download(published: PublishedWeights) -> Path:
    # Only now: a server, which loads the networks of this package, does without the packages for downloads.
    from cxr_pipeline.data.downloads import download

    cached = _keras_cache() / published.file
    # In a folder of its own, where leftovers of a killed download can be removed.
    downloaded = cached.parent / ".cxr_pipeline" / published.file
    checksum = None if published.md5 is None else f"md5:{published.md5}"
    download(published.url, downloaded, checksum=checksum, page=published.url, by_hand=cached)
    try:
        return _check_defects(downloaded, published.md5).replace(cached)
    finally:
        downloaded.unlink(missing_ok=True)


def _keras_cache() -> Path:
    return Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / "models"


def _md5(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
