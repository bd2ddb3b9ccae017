"""Datasets for one small file: JSON, text or bytes."""

import json
from pathlib import Path
from typing import Any, Generic, TypeVar

from kedro.io import AbstractDataset

from cxr_pipeline.common.files import written_atomically

Content = TypeVar("Content")


class _DocumentDataset(AbstractDataset[Content, Content], Generic[Content]):
    """One file that is read and written whole."""

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = Path(filepath)
        self.metadata = metadata

    def _exists(self) -> bool:
        return self._filepath.is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}


class JSONDataset(_DocumentDataset[Any]):
    """Strict JSON (no NaN), indented and in the order given, so that equal data give equal bytes.

    Example:
        >>> dataset = JSONDataset(filepath=tmp_path / "metrics.json")  # doctest: +SKIP
        >>> dataset.save({"auc": 0.9})  # doctest: +SKIP
    """

    def load(self) -> Any:
        """Read the document."""
        return json.loads(self._filepath.read_text(encoding="utf-8"))

    def save(self, data: Any) -> None:
        """Write the document."""
        text = json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False)
        with written_atomically(self._filepath) as beside:
            beside.write_text(text + "\n", encoding="utf-8")


class TextDataset(_DocumentDataset[str]):
    """Text in UTF-8, such as an HTML page."""

    def load(self) -> str:
        """Read the text."""
        return self._filepath.read_text(encoding="utf-8")

    def save(self, data: str) -> None:
        """Write the text."""
        with written_atomically(self._filepath) as beside:
            beside.write_text(data, encoding="utf-8")


class BytesDataset(_DocumentDataset[bytes]):
    """Bytes, such as a PNG."""

    def load(self) -> bytes:
        """Read the bytes."""
        return self._filepath.read_bytes()

    def save(self, data: bytes) -> None:
        """Write the bytes."""
        with written_atomically(self._filepath) as beside:
            beside.write_bytes(data)
