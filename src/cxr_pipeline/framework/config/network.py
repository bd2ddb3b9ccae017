"""Parameters of the network, and the files of pretrained weights."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from functools import cache
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from kedro.validation import ParameterValidationError
from pydantic import AfterValidator, ConfigDict, Field, ValidationError

from cxr_pipeline.common.files import explain_damage
from cxr_pipeline.common.mappings import json_digest
from cxr_pipeline.data.pretraining import read_list
from cxr_pipeline.framework.config.data import Task
from cxr_pipeline.framework.config.parameters import Parameters
from cxr_pipeline.training.networks.weights import (
    ARCHITECTURES,
    content_digest,
    find_card,
    find_weights,
    is_version,
)

if TYPE_CHECKING:
    from cxr_pipeline.framework.config.training import Training
    from cxr_pipeline.tracking.versions import ModelVersion


def _architecture(name: str) -> str:
    if name not in ARCHITECTURES:
        close = get_close_matches(name, ARCHITECTURES, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise ValueError(f"expected one of {', '.join(ARCHITECTURES)}, found {name!r}{hint}")
    return name


class Rescaled(Parameters):
    """A normalisation: ``scale`` times the grey level, 0 to 255, plus ``offset``; of all channels, or of each.

    Args:
        scale: factor.
        offset: added afterwards.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    scale: float | Annotated[tuple[float, ...], Field(min_length=3, max_length=3)]
    offset: float | Annotated[tuple[float, ...], Field(min_length=3, max_length=3)]


Normalisation = Literal["imagenet", "torchxrayvision", "jfhealthcare"] | Rescaled


class WeightsCard(Parameters):
    """What is known about a weights file, in a YAML or JSON file of the same name with .yml, .yaml or .json after it.

    Args:
        source: where the weights are from.
        licence: their licence.
        normalisation: the normalisation that they need; null for that of ImageNet weights.
        trained_on: collections of images that they were trained on, such as ``nih`` or ``chexpert``.
        images: text file with a name or SHA-256 of each of these images in a line, relative to the card.
        patients: text file with the identifier of each of their patients in a line, relative to the card.
    """

    source: str = ""
    licence: str = ""
    normalisation: Normalisation | None = None
    trained_on: tuple[str, ...] = ()
    images: str | None = None
    patients: str | None = None

    @property
    def lists(self) -> dict[str, str]:
        """Files with training images and patients, by ``images`` and ``patients``."""
        return {name: entry for name in ("images", "patients") if (entry := getattr(self, name))}


def read_card(weights: Path) -> WeightsCard:
    """Read the card of a weights file; without a card, nothing is known.

    Raises:
        UserError: the card is not YAML or JSON.
        ParameterValidationError: it has an unknown key or an invalid value.
    """
    file = find_card(weights)
    if file is None:
        return WeightsCard()
    with explain_damage(file, "Expected YAML or JSON with keys and values."):
        content = yaml.safe_load(file.read_text("utf-8"))
    try:
        return WeightsCard.model_validate({} if content is None else content)
    except ValidationError as error:
        raise ParameterValidationError(f"- Parameter '{file}': {error}") from error


class Network(Parameters):
    """The network, see `build_model`.

    Args:
        name: ``small_cnn``, ``cnn``, or a backbone: ``densenet121``, ``vgg16``, ``resnet50``, ``resnet50v1_5`` (as in
            PyTorch), ``inceptionv3``, ``mobilenetv2``, ``efficientnetv2b0``, or ``dinov2_vitb14`` (a frozen
            transformer).
        weights: ``none``, ``imagenet``, the path of a weights file, or ``models:/NAME/VERSION`` or
            ``models:/NAME@ALIAS`` for the backbone of a registered version; ``imagenet`` weights are searched in
            ``<raw>/weights/`` and in Keras' cache before they are downloaded.
        normalisation: how grey levels are scaled, which depends on the weights: ``imagenet``, ``torchxrayvision``,
            ``jfhealthcare``, or a scale and an offset; null for that of the card of a weights file, or else that of the
            backbone's ImageNet weights.
        head_units: units of a dense layer before the outputs; 0 for none.
        dropout: fraction of the pooled features that is dropped in training.
        pooling: ``average`` of the last feature map, or ``multilevel``: standardised averages of several.
    """

    name: Annotated[str, AfterValidator(_architecture)]
    weights: str
    normalisation: Normalisation | None = None
    head_units: Annotated[int, Field(ge=0, le=4096)]
    dropout: Annotated[float, Field(ge=0, lt=1)]
    pooling: Literal["average", "multilevel"]

    def build(self, *, size: int, task: Task, training: "Training", raw: Path) -> Any:
        """Build the network of a task for images with a side of ``size`` pixels."""
        from cxr_pipeline.training.networks.build import build_model

        with self.open_weights(raw) as file:
            return build_model(
                **self.model_dump(exclude={"weights", "normalisation"}),
                weights_file=file,
                normalisation=self._scale_and_offset(file),
                size=size,
                n_outputs=len(task.outputs),
                exclusive=task.exclusive,
                cut=training.fine_tuning.cut,
                seed=training.seed,
            )

    @contextmanager
    def open_weights(self, raw: Path) -> Iterator[Path | None]:
        """Yield the file of pretrained weights; that of a registered version is temporary."""
        if not is_version(self.weights):
            yield find_weights(self.name, self.weights, raw)
            return
        from cxr_pipeline.tracking.versions import keras_file

        with keras_file(pinned_version(self.weights).uri) as file:
            yield file

    def _scale_and_offset(self, file: Path | None) -> Any:
        from cxr_pipeline.training.networks.backbones import NORMALISATIONS

        chosen = self.normalisation or (read_card(file).normalisation if file is not None else None)
        if isinstance(chosen, Rescaled):
            scaling = chosen.model_dump(mode="json")
            return scaling["scale"], scaling["offset"]
        return None if chosen is None else NORMALISATIONS[chosen]


def pinned_version(uri: str) -> "ModelVersion":
    """Return the registered version at a URI; in a process, an alias is resolved once."""
    import mlflow

    return _pinned_version(uri, mlflow.get_tracking_uri())


@cache
def _pinned_version(uri: str, server: str) -> "ModelVersion":
    from cxr_pipeline.tracking.versions import resolve_version

    return resolve_version(uri)


def weights_digests(model: Mapping[str, Any], raw: Path) -> list[str | None]:
    """Return a digest of each pretrained network that a run, or a trial of a search, starts from; None if published.

    A parameter of the network that is searched over has ``choices``. `UserError` if a file is missing or damaged.
    """
    names, weights = (
        value["choices"] if isinstance(value, Mapping) else [value] for value in (model["name"], model["weights"])
    )
    return [_weights_digest(name, given, raw) for name, given in product(names, weights)]


def _weights_digest(name: str, weights: str, raw: Path) -> str | None:
    """Return the digest of a weights file, with that of the lists in its card, or the URI of a version."""
    if is_version(weights):
        return pinned_version(weights).uri
    digest = content_digest(name, weights, raw)
    file = None if digest is None else find_weights(name, weights, raw)
    lists = [] if file is None else [file.parent / entry for entry in read_card(file).lists.values()]
    return digest and " ".join([digest, *(json_digest(sorted(read_list(path))) for path in lists)])
