"""``NewFilesDataset`` adds files to a folder and never writes over one."""

from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset
from kedro.io.core import DatasetError

from cxr_pipeline.common.files import written_atomically


class NewFilesDataset(AbstractDataset[dict[str, str], dict[str, str]]):
    """Texts by file name; saving adds them to those that are there.

    Args:
        filepath: folder of the files.
        metadata: kept for plugins, such as the layer for kedro-viz.

    Example:
        >>> dataset = NewFilesDataset(filepath=tmp_path / "decisions")  # doctest: +SKIP
        >>> dataset.save({"2031-05-04T020000Z.md": "Promoted."})  # doctest: +SKIP
        >>> list(dataset.load())  # doctest: +SKIP
        ['2031-05-04T020000Z.md']
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = Path(filepath)
        self.metadata = metadata

    def load(self) -> dict[str, str]:
        """Read all files, in the order of their names."""
        files = sorted(path for path in self._filepath.iterdir() if not path.name.startswith("."))
        return {path.name: path.read_text(encoding="utf-8") for path in files}

    def save(self, data: dict[str, str]) -> None:
        """Write each text to its file.

        Raises:
            DatasetError: there is a file of that name; then none is written.
        """
        there = sorted(name for name in data if (self._filepath / name).exists())
        if there:
            raise DatasetError(f"{self._filepath} keeps what it has, and has {', '.join(there)} already.")
        self._filepath.mkdir(parents=True, exist_ok=True)
        for name, text in data.items():
            with written_atomically(self._filepath / name) as beside:
                beside.write_text(text, encoding="utf-8")

    def _exists(self) -> bool:
        return self._filepath.is_dir()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}
