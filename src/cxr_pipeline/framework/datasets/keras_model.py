"""``KerasModelDataset`` keeps a Keras model in a ``.keras`` file."""

from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset, DatasetError

from cxr_pipeline.common.files import written_atomically


class KerasModelDataset(AbstractDataset[Any, Any]):
    """A model with its weights, read in Keras' safe mode: no code comes out of the file.

    kedro-datasets' ``TensorFlowModelDataset`` starts TensorFlow as soon as the catalog names it and does
    not write atomically; this one does neither.

    Args:
        filepath: a path that ends in ``.keras``.

    Example:
        >>> dataset = KerasModelDataset(filepath=tmp_path / "model.keras")  # doctest: +SKIP
        >>> dataset.save(model)  # doctest: +SKIP
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = Path(filepath)
        self.metadata = metadata
        if self._filepath.suffix != ".keras":
            raise DatasetError(f"a Keras model's file ends in .keras. Received: filepath={filepath}")

    def load(self) -> Any:
        """Read the model, ready to predict."""
        import keras

        return keras.models.load_model(self._filepath, compile=False, safe_mode=True)

    def save(self, data: Any) -> None:
        """Write the model."""
        with written_atomically(self._filepath) as beside:
            data.save(beside)

    def _exists(self) -> bool:
        return self._filepath.is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}
