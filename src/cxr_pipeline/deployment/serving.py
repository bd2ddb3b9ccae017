"""The registered model for serving with MLflow, from base64 images to probabilities and decisions.

MLflow copies this file next to the model's weights and runs it when the model is loaded, so that nothing is pickled;
see https://mlflow.org/docs/latest/ml/model/models-from-code. Registration imports it for signature and requirements.
"""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from threading import BoundedSemaphore, Lock
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature, set_model
from mlflow.pyfunc import PythonModel, PythonModelContext
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

from cxr_pipeline.common.errors import ImageRefused
from cxr_pipeline.common.parallel import n_cores
from cxr_pipeline.data.images.recipe import Recipe, prepare_content
from cxr_pipeline.deployment.classifier import ImageClassifier, Prepared, output_columns

if TYPE_CHECKING:
    from cxr_pipeline.deployment.heatmaps import HeatMaps

# The packages that this file and its imports require. pydicom decodes with GDCM.
_REQUIREMENTS = (
    "mlflow",
    "annotated-types",
    "tensorflow",
    "keras",
    "h5py",
    "numpy",
    "pandas",
    "opencv-python-headless",
    "kornia-rs",
    "matplotlib",
    "pillow",
    "psutil",
    "pyarrow",
    "pydicom",
    "python-gdcm",
    "rich",
    "scikit-learn",
    "scipy",
)
_BATCH_SIZE = 32
# 100 megapixels of 16 bits need 191 MiB without compression.
_LIMITS = {"max_images": 256, "max_image_mib": 192}


class ServedClassifier(PythonModel):  # type: ignore[misc]
    """Scores images sent as bytes, never paths: a server must not read files that a client names.

    A server calls it from several threads. One image per core is decoded at a time, and one batch is in the network, so
    many clients at once need no more memory than their requests.

    Example:
        With a registered model and ``image``, the bytes of an image's file::

            served = mlflow.pyfunc.load_model("models:/cxr-effusion@champion")
            served.predict(pd.DataFrame({"image": [base64.b64encode(image).decode()]}))
    """

    def load_context(self, context: PythonModelContext) -> None:
        """Load the classifier from the model's files, and the limits from its configuration."""
        classifier = ImageClassifier.load(Path(context.artifacts["classifier"]))
        limits = context.model_config
        self._max_images, self._max_image_mib = int(limits["max_images"]), float(limits["max_image_mib"])
        # Serving may lower the limit of training, but not raise it.
        max_megapixels = min(classifier.recipe.max_megapixels, float(limits["max_megapixels"]))
        recipe = replace(classifier.recipe, max_megapixels=max_megapixels)
        self._classifier = replace(classifier, recipe=recipe)
        self._decoding, self._network = BoundedSemaphore(n_cores()), Lock()

    def predict(self, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Score the column ``image``: image files, such as PNG, JPEG or DICOM, as base64 text.

        The result has the rows of ``ImageClassifier.score_batch``, with None for null, which JSON can express. With the
        parameter ``heatmap``, also the prepared image under its heat map, a PNG as base64 text, None if it was refused.
        `MlflowException` is raised if the request has too many images.
        """
        images = model_input["image"].tolist()
        if len(images) > self._max_images:
            raise MlflowException.invalid_parameter_value(
                f"{len(images)} images in one call; this server scores at most {self._max_images}. Split the request."
            )
        heatmap = bool((params or {}).get("heatmap", False))
        batches = [images[start : start + _BATCH_SIZE] for start in range(0, len(images), _BATCH_SIZE)]
        tables = [self._score([self._prepare(image) for image in batch], heatmap=heatmap) for batch in batches or [[]]]
        table = pd.concat(tables, ignore_index=True)
        return table.astype(object).where(table.notna(), None)

    def _prepare(self, image: object) -> Prepared:
        with self._decoding:
            try:
                content = decode_base64(image, max_mib=self._max_image_mib)
                return prepare_content(content, self._classifier.recipe)
            except ImageRefused as refusal:
                return refusal

    def _score(self, prepared: Sequence[Prepared], *, heatmap: bool) -> pd.DataFrame:
        with self._network:
            table = self._classifier.score_batch(prepared)
            if heatmap:
                pictures = self._heatmaps.draw(prepared, table)
                encoded = [None if picture is None else _png_as_text(picture[..., ::-1]) for picture in pictures]
                table["heatmap"] = pd.Series(encoded, dtype="str")
            return table

    @cached_property
    def _heatmaps(self) -> "HeatMaps":
        from cxr_pipeline.deployment.heatmaps import HeatMaps

        return HeatMaps(self._classifier)


def limits_of(recipe: Recipe) -> dict[str, float]:
    """Return the default limits of a server, which can be changed by an environment variable."""
    return {**_LIMITS, "max_megapixels": recipe.max_megapixels}


def _png_as_text(picture: np.ndarray[Any, np.dtype[np.uint8]]) -> str:
    """Encode an image, grey or BGR."""
    return base64.b64encode(cv2.imencode(".png", picture)[1].tobytes()).decode("ascii")


def decode_base64(image: object, *, max_mib: float) -> bytes:
    """Decode base64 text of at most ``max_mib`` MiB, which may contain white space; else raise `ImageRefused`.

    Example:
        >>> decode_base64("aGVsbG8=", max_mib=1)
        b'hello'
    """
    if not isinstance(image, str):
        raise ImageRefused("unreadable", "not base64 text")
    if 3 * len(image) > 4 * max_mib * 2**20:
        raise ImageRefused("too_large", f"{len(image)} characters of base64; expected at most {max_mib} MiB of image")
    try:
        return base64.b64decode("".join(image.split()), validate=True)
    except (binascii.Error, ValueError):
        raise ImageRefused("unreadable", "not base64 text") from None


def signature(outputs: Sequence[str]) -> ModelSignature:
    """Return the columns of requests and responses of a model with these outputs."""
    answer = [
        *(ColSpec("double", name, required=False) for name in output_columns("probability", outputs)),
        ColSpec("string", "decision", required=False),
        *(ColSpec("double", name) for name in output_columns("threshold", outputs)),
        ColSpec("string", "status"),
        ColSpec("string", "reason", required=False),
        ColSpec("string", "heatmap", required=False),
    ]
    asked = ParamSchema([ParamSpec("heatmap", "boolean", default=False)])
    return ModelSignature(Schema([ColSpec("string", "image")]), Schema(answer), asked)


def requirements(classifier: ImageClassifier) -> list[str]:
    """Return the packages that a server of a classifier must install, pinned to the versions installed here."""
    from cxr_pipeline.training.networks.views import network_of

    network = network_of(classifier.model)
    transformer = any(type(layer).__module__.startswith("keras_hub.") for layer in network.layers)
    needed = (*_REQUIREMENTS, *(["keras-hub"] if transformer else []))
    return [f"{distribution}=={version(distribution)}" for distribution in needed]


def example_request(size: int) -> pd.DataFrame:
    """Return a request, which is stored with the model and must not have the image of a patient."""
    ramp = np.tile(np.linspace(0, 255, size).astype(np.uint8), (size, 1))
    return pd.DataFrame({"image": [_png_as_text(ramp)]})


set_model(ServedClassifier())
