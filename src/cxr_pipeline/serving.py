"""The registered model, as MLflow serves it: films as base64 text in, probabilities and decisions out.

MLflow copies this file beside the model's weights and runs it when the model is loaded (models from
code), so that nothing is pickled. Imported as a module, it describes what it takes and needs.
"""

import base64
import binascii
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from mlflow.models import ModelSignature, set_model
from mlflow.pyfunc import PythonModel, PythonModelContext
from mlflow.types import ColSpec, Schema

from cxr_pipeline.classifier import FilmClassifier, Prepared, probability_columns, threshold_columns
from cxr_pipeline.errors import FilmRefused

# The distributions that this file and what it imports name; pydicom decodes with GDCM.
_REQUIREMENTS = (
    "mlflow",
    "tensorflow",
    "keras",
    "numpy",
    "pandas",
    "opencv-python-headless",
    "kornia-rs",
    "pillow",
    "pydicom",
    "python-gdcm",
    "scikit-learn",
    "scipy",
)
_BATCH_SIZE = 32
# 192 MiB of film, more than 100 megapixels of 16 bits take without compression.
_MAX_CHARACTERS = 2**28


class ServedClassifier(PythonModel):  # type: ignore[misc]
    """Takes the bytes of films, never paths: a server must not read files that a client names.

    Example:
        >>> import mlflow  # doctest: +SKIP
        >>> served = mlflow.pyfunc.load_model("models:/cxr-effusion/1")  # doctest: +SKIP
        >>> film = base64.b64encode(Path("film.png").read_bytes()).decode()  # doctest: +SKIP
        >>> served.predict(pd.DataFrame({"film": [film]}))  # doctest: +SKIP
           probability  decision  threshold  status reason
        0         0.83  effusion       0.41  scored   None
    """

    def load_context(self, context: PythonModelContext) -> None:
        """Read the classifier from the model's files."""
        self._classifier = FilmClassifier.load(Path(context.artifacts["classifier"]))

    def predict(self, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Judge films.

        Args:
            model_input: column ``film``: a film's file, PNG, JPEG or DICOM for example, as base64 text.
            params: none are known.

        Returns:
            A row per film, in order, as from ``FilmClassifier.judge``: ``probability``, ``decision``, ``threshold``,
            ``status``, ``reason``, or ``probability_<class>`` and ``threshold_<class>`` where there are several
            outputs; with None for null, which JSON has a word for.
        """
        prepared = map(self._prepare, model_input["film"])
        table = self._classifier.judge(prepared, batch_size=_BATCH_SIZE)
        return table.astype(object).where(table.notna(), None)

    def _prepare(self, film: object) -> Prepared:
        try:
            return self._classifier.prepare(decode_base64(film))
        except FilmRefused as refusal:
            return refusal


def decode_base64(film: object) -> bytes:
    """Turn base64 text into bytes; line breaks in it are passed over.

    Raises:
        FilmRefused: it is not base64 text, or it stands for more bytes than a film may have.
    """
    if not isinstance(film, str):
        raise FilmRefused("unreadable", "not base64 text")
    if len(film) > _MAX_CHARACTERS:
        raise FilmRefused("too_large", f"{len(film)} characters of base64, at most {_MAX_CHARACTERS} are read")
    try:
        return base64.b64decode("".join(film.split()), validate=True)
    except (binascii.Error, ValueError):
        raise FilmRefused("unreadable", "not base64 text") from None


def signature(outputs: Sequence[str]) -> ModelSignature:
    """Describe the columns of a request and of the answer of a model with these outputs."""
    answer = [
        *(ColSpec("double", name, required=False) for name in probability_columns(outputs)),
        ColSpec("string", "decision", required=False),
        *(ColSpec("double", name) for name in threshold_columns(outputs)),
        ColSpec("string", "status"),
        ColSpec("string", "reason", required=False),
    ]
    return ModelSignature(Schema([ColSpec("string", "film")]), Schema(answer))


def requirements() -> list[str]:
    """Pin what a server has to install to the versions that are installed here."""
    return [f"{distribution}=={version(distribution)}" for distribution in _REQUIREMENTS]


def example_request(film: np.ndarray[Any, np.dtype[np.uint8]]) -> pd.DataFrame:
    """Make the request that asks about one film, uint8 [height, width]."""
    png = cv2.imencode(".png", film)[1].tobytes()
    return pd.DataFrame({"film": [base64.b64encode(png).decode("ascii")]})


set_model(ServedClassifier())
