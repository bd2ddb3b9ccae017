"""Datasets of a folder of small files."""

from collections.abc import Mapping

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.common.files import written_atomically
from cxr_pipeline.framework.datasets.files import PathDataset


class FiguresDataset(PathDataset):
    """Figures by name, as ``<name>.png`` in a folder; saving removes all other figures.

    Example of a catalog entry::

        figures:
          type: cxr_pipeline.framework.datasets.folders.FiguresDataset
          filepath: data/08_reporting/figures
          metadata: {mlflow: artifact}
    """

    def _read(self) -> dict[str, bytes]:
        paths = sorted(path for path in self._filepath.iterdir() if path.match("[!.]*.png"))
        return {path.stem: path.read_bytes() for path in paths}

    def save(self, data: dict[str, bytes]) -> None:
        """Write the figures, then remove those of earlier runs."""
        for name, png in data.items():
            with written_atomically(self._filepath / f"{name}.png") as temporary:
                temporary.write_bytes(png)
        for path in self._filepath.glob("*.png"):
            if path.stem not in data:
                path.unlink()


class NewFilesDataset(PathDataset):
    """Contents by file name, text or bytes; saving adds files to a folder and never overwrites one.

    Files that end in ``.parquet`` are bytes, all others text in UTF-8.

    Example of a catalog entry::

        decisions:
          type: cxr_pipeline.framework.datasets.folders.NewFilesDataset
          filepath: data/08_reporting/decisions
    """

    def _read(self) -> dict[str, str | bytes]:
        files = sorted(path for path in self._filepath.iterdir() if not path.name.startswith("."))
        return {
            path.name: path.read_bytes() if path.suffix == ".parquet" else path.read_text("utf-8") for path in files
        }

    def save(self, data: Mapping[str, str | bytes]) -> None:
        """Write each content to its file, or none of them if a file of one of the names exists."""
        existing = sorted(name for name in data if (self._filepath / name).exists())
        if existing:
            raise UserError(
                f"{self._filepath} already has {', '.join(existing)}, which must not be overwritten. Move them to "
                "another folder and run the same command again."
            )
        self._filepath.mkdir(parents=True, exist_ok=True)
        for name, content in data.items():
            with written_atomically(self._filepath / name) as temporary:
                temporary.write_bytes(content.encode() if isinstance(content, str) else content)
