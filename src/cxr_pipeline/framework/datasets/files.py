"""Datasets of one file: JSON, text, bytes, a Keras model, a reference profile."""

import json
from abc import abstractmethod
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset, DatasetError

from cxr_pipeline.common.files import written_atomically


class PathDataset(AbstractDataset[Any, Any]):
    """A file or folder on this machine.

    Args:
        filepath: Its path.
        metadata: For hooks and plugins: ``mlflow: artifact`` logs it to the MLflow run after it is saved, and
            ``kedro-viz: {layer: ...}`` names its layer in the graph.
    """

    suffixes: tuple[str, ...] = ()

    def __init__(self, *, filepath: str | Path, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = Path(filepath)
        self.metadata = metadata
        if self.suffixes and self._filepath.suffix not in self.suffixes:
            expected = " or ".join(self.suffixes)
            raise DatasetError(f"{type(self).__name__} expects a path that ends in {expected}. Received: {filepath=!s}")

    def _exists(self) -> bool:
        return self._filepath.exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}


class FileDataset(PathDataset):
    """One file. Whoever reads it finds the old content or the new, never a part of it."""

    def save(self, data: Any) -> None:
        """Replace the file."""
        with written_atomically(self._filepath) as temporary:
            self._write(data, temporary)

    @abstractmethod
    def _write(self, data: Any, path: Path) -> None:
        """Write ``data`` to a new file."""


class JSONDataset(FileDataset):
    """Strict JSON (no NaN), indented and in the order given, so that equal data give equal bytes.

    Example of a catalog entry::

        metrics:
          type: cxr_pipeline.framework.datasets.files.JSONDataset
          filepath: data/08_reporting/metrics.json
          metadata: {mlflow: artifact}

    Example:
        >>> dataset = JSONDataset(filepath=tmp_path / "metrics.json")
        >>> dataset.save({"auc": 0.9})
        >>> dataset.load()
        {'auc': 0.9}
    """

    def load(self) -> Any:
        """Read the document."""
        return json.loads(self._filepath.read_text("utf-8"))

    def _write(self, data: Any, path: Path) -> None:
        path.write_text(json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")


class TextDataset(FileDataset):
    """Text in UTF-8, such as an HTML page.

    Example of a catalog entry::

        report:
          type: cxr_pipeline.framework.datasets.files.TextDataset
          filepath: data/08_reporting/report.html

    Example:
        >>> dataset = TextDataset(filepath=tmp_path / "report.html")
        >>> dataset.save("<p>AUC 0.9</p>")
        >>> dataset.load()
        '<p>AUC 0.9</p>'
    """

    def load(self) -> str:
        """Read the text."""
        return self._filepath.read_text("utf-8")

    def _write(self, data: str, path: Path) -> None:
        path.write_text(data, "utf-8")


class BytesDataset(FileDataset):
    """Bytes, such as a PNG picture.

    Example of a catalog entry::

        roc:
          type: cxr_pipeline.framework.datasets.files.BytesDataset
          filepath: data/08_reporting/roc.png

    Example:
        >>> dataset = BytesDataset(filepath=tmp_path / "roc.png")
        >>> dataset.save(b"PNG")
        >>> dataset.load()
        b'PNG'
    """

    def load(self) -> bytes:
        """Read the bytes."""
        return self._filepath.read_bytes()

    def _write(self, data: bytes, path: Path) -> None:
        path.write_bytes(data)


class KerasModelDataset(FileDataset):
    """A Keras model in a ``.keras`` file, read in safe mode: no code is loaded from the file.

    TensorFlow is imported when a model is loaded. kedro-datasets' ``TensorFlowModelDataset`` imports it as soon as the
    catalog is created.

    Example of a catalog entry::

        model:
          type: cxr_pipeline.framework.datasets.files.KerasModelDataset
          filepath: data/06_models/model.keras

    Example:
        >>> import keras
        >>> dataset = KerasModelDataset(filepath=tmp_path / "model.keras")
        >>> dataset.save(keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]))
        >>> dataset.load().output_shape
        (None, 1)
    """

    suffixes = (".keras",)

    def load(self) -> Any:
        """Read the model, ready to predict."""
        import keras

        return keras.models.load_model(self._filepath, compile=False, safe_mode=True)

    def _write(self, data: Any, path: Path) -> None:
        data.save(path)


class ReferenceProfileDataset(FileDataset):
    """A reference profile for drift in an ``.npz`` file, without pickles.

    Example of a catalog entry::

        drift_profile:
          type: cxr_pipeline.framework.datasets.files.ReferenceProfileDataset
          filepath: data/06_models/drift_profile.npz
    """

    suffixes = (".npz",)

    def load(self) -> Any:
        """Read the profile."""
        from cxr_pipeline.deployment.drift.reference_profile import ReferenceProfile

        return ReferenceProfile.load(self._filepath)

    def _write(self, data: Any, path: Path) -> None:
        data.save(path)
