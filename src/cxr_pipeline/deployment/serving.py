"""The registered model, as MLflow serves it: images as base64 text in, probabilities and decisions out.

MLflow copies this file beside the model's weights and runs it when the model is loaded (models from
code), so that nothing is pickled. Imported as a module, it describes what it takes and needs.
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
from cxr_pipeline.data.images.recipe import Recipe
from cxr_pipeline.deployment.classifier import ImageClassifier, Prepared, probability_columns, threshold_columns

if TYPE_CHECKING:
    from cxr_pipeline.deployment.heatmaps import HeatMaps

# The distributions that this file and what it imports name; pydicom decodes with GDCM.
_REQUIREMENTS = (
    "mlflow",
    "tensorflow",
    "keras",
    "numpy",
    "pandas",
    "opencv-python-headless",
    "kornia-rs",
    "matplotlib",
    "pillow",
    "pyarrow",
    "pydicom",
    "python-gdcm",
    "rich",
    "scikit-learn",
    "scipy",
)
_BATCH_SIZE = 32
# 192 MiB of image is more than 100 megapixels of 16 bits take without compression.
_LIMITS = {"max_images": 256, "max_image_mib": 192}


class ServedClassifier(PythonModel):  # type: ignore[misc]
    """Takes the bytes of images, never paths: a server must not read files that a client names.

    A server calls it from several threads. So many images are decoded at once as there are cores, and one batch at a
    time is in the network: what many clients want at once takes no more memory than what they sent.

    Example:
        >>> import mlflow  # doctest: +SKIP
        >>> served = mlflow.pyfunc.load_model("models:/cxr-effusion@champion")  # doctest: +SKIP
        >>> image = base64.b64encode(Path("image.png").read_bytes()).decode()  # doctest: +SKIP
        >>> served.predict(pd.DataFrame({"image": [image]}))  # doctest: +SKIP
           probability  decision  threshold  status reason
        0         0.83  effusion       0.41  scored   None
    """

    def load_context(self, context: PythonModelContext) -> None:
        """Read the classifier from the model's files, and the limits from its configuration."""
        classifier = ImageClassifier.load(Path(context.artifacts["classifier"]))
        limits = {**limits_of(classifier.recipe), **(getattr(context, "model_config", None) or {})}
        self._max_images, self._max_image_mib = int(limits["max_images"]), float(limits["max_image_mib"])
        # More than the images that it was trained on might have, a model does not take.
        max_megapixels = min(classifier.recipe.max_megapixels, float(limits["max_megapixels"]))
        recipe = replace(classifier.recipe, max_megapixels=max_megapixels)
        self._classifier = replace(classifier, recipe=recipe)
        self._decoding, self._network = BoundedSemaphore(n_cores()), Lock()

    def predict(self, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Judge images.

        Args:
            model_input: column ``image``: an image's file, PNG, JPEG or DICOM for example, as base64 text.
            params: ``heatmap``: whether to draw where the model looks.

        Returns:
            A row per image, in order, as from ``ImageClassifier.judge``: ``probability``, ``decision``, ``threshold``,
            ``status``, ``reason``, or ``probability_<class>`` and ``threshold_<class>`` where there are several
            outputs; if asked for, ``heatmap``: the prepared image with a map laid over it, a PNG as base64 text, null
            where the image was refused. With None for null, which JSON has a word for.

        Raises:
            MlflowException: there are more images than are judged in a call.
        """
        images = model_input["image"].tolist()
        if len(images) > self._max_images:
            raise MlflowException.invalid_parameter_value(
                f"{len(images)} images in one call; this server judges at most {self._max_images}. Send them in several."
            )
        heatmap = bool((params or {}).get("heatmap", False))
        batches = [images[start : start + _BATCH_SIZE] for start in range(0, len(images), _BATCH_SIZE)]
        tables = [self._judge([self._prepare(image) for image in batch], heatmap=heatmap) for batch in batches or [[]]]
        table = pd.concat(tables, ignore_index=True)
        return table.astype(object).where(table.notna(), None)

    def _prepare(self, image: object) -> Prepared:
        with self._decoding:
            try:
                return self._classifier.prepare(decode_base64(image, max_mib=self._max_image_mib))
            except ImageRefused as refusal:
                return refusal

    def _judge(self, prepared: Sequence[Prepared], *, heatmap: bool) -> pd.DataFrame:
        with self._network:
            table = self._classifier.judge_batch(prepared)
            return table.assign(heatmap=self._draw(prepared, table)) if heatmap else table

    def _draw(self, prepared: Sequence[Prepared], judged: pd.DataFrame) -> pd.Series:
        images = [image for image in prepared if not isinstance(image, ImageRefused)]
        scored = judged["status"] == "scored"
        pictures = self._heatmaps.draw(images, judged[scored])
        drawn = pd.Series(None, index=judged.index, dtype="str")
        drawn[scored] = [_png_as_text(picture[..., ::-1]) for picture in pictures]
        return drawn

    @cached_property
    def _heatmaps(self) -> "HeatMaps":
        from cxr_pipeline.deployment.heatmaps import HeatMaps

        return HeatMaps(self._classifier)


def limits_of(recipe: Recipe) -> dict[str, float]:
    """The limits of a server of a model with this recipe, which its environment may set otherwise.

    Returns:
        ``max_images`` in a call; ``max_image_mib``, of an image's file; ``max_megapixels``, of an image.
    """
    return {**_LIMITS, "max_megapixels": recipe.max_megapixels}


def _png_as_text(picture: np.ndarray[Any, np.dtype[np.uint8]]) -> str:
    """Encode a picture, grey or blue, green and red."""
    return base64.b64encode(cv2.imencode(".png", picture)[1].tobytes()).decode("ascii")


def decode_base64(image: object, *, max_mib: float) -> bytes:
    """Turn base64 text into bytes; line breaks in it are passed over.

    Args:
        image: what a client sent.
        max_mib: a longer text is not decoded; in MiB of what it stands for.

    Raises:
        ImageRefused: ``unreadable``, it is not base64 text; or ``too_large``.
    """
    if not isinstance(image, str):
        raise ImageRefused("unreadable", "not base64 text")
    if 3 * len(image) > 4 * max_mib * 2**20:
        raise ImageRefused("too_large", f"{len(image)} characters of base64; at most {max_mib} MiB of image are read")
    try:
        return base64.b64decode("".join(image.split()), validate=True)
    except (binascii.Error, ValueError):
        raise ImageRefused("unreadable", "not base64 text") from None


def signature(outputs: Sequence[str]) -> ModelSignature:
    """Describe what a request may hold, and the columns of the answer of a model with these outputs."""
    answer = [
        *(ColSpec("double", name, required=False) for name in probability_columns(outputs)),
        ColSpec("string", "decision", required=False),
        *(ColSpec("double", name) for name in threshold_columns(outputs)),
        ColSpec("string", "status"),
        ColSpec("string", "reason", required=False),
        ColSpec("string", "heatmap", required=False),
    ]
    asked = ParamSchema([ParamSpec("heatmap", "boolean", default=False)])
    return ModelSignature(Schema([ColSpec("string", "image")]), Schema(answer), asked)


def requirements() -> list[str]:
    """Pin what a server has to install to the versions that are installed here."""
    return [f"{distribution}=={version(distribution)}" for distribution in _REQUIREMENTS]


def example_request(image: np.ndarray[Any, np.dtype[np.uint8]]) -> pd.DataFrame:
    """Make the request that asks about one image, uint8 [height, width]."""
    return pd.DataFrame({"image": [_png_as_text(image)]})


set_model(ServedClassifier())
