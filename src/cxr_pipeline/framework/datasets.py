"""Datasets of the catalog. Each replaces its file or folder only when the new content is complete."""

import csv
import json
import re
import zipfile
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from kedro.io import AbstractDataset, DatasetError

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.common.files import explain_damage, written_atomically
from cxr_pipeline.data.images.store import PreparedImages
from cxr_pipeline.framework import previews

# Cells that spreadsheet programs run (https://owasp.org/www-community/attacks/CSV_Injection), also with quotes before
# them, so that reading a file gives back what was written.
_FORMULA = re.compile(r"'*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")


class PathDataset(AbstractDataset[Any, Any]):
    """A file or folder on this machine.

    Args:
        filepath: Its path.
        metadata: For hooks and plugins: ``mlflow: artifact`` logs it to the MLflow run after it is saved, and
            ``kedro-viz: {layer: ...}`` names its layer in the graph, and has ``preview_args`` for ``preview``.
    """

    suffixes: ClassVar[tuple[str, ...]] = ()
    # What to do if the file is missing or damaged.
    remedy = "Run the pipeline of the task from its start, without --from-nodes or --nodes: it writes the file again."

    def __init__(self, *, filepath: str | Path, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = Path(filepath)
        self.metadata = metadata
        if self.suffixes and self._filepath.suffix not in self.suffixes:
            expected = " or ".join(self.suffixes)
            raise DatasetError(f"{type(self).__name__} expects a path that ends in {expected}. Received: {filepath=!s}")

    def load(self) -> Any:
        """Read the content; raise `UserError` if the file or folder is missing or damaged."""
        with explain_damage(self._filepath, self.remedy):
            return self._read()

    @abstractmethod
    def _read(self) -> Any:
        """Read the content of a file or folder that may be missing or damaged."""

    def _exists(self) -> bool:
        return self._filepath.exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def _write_json(path: Path, data: Any) -> None:
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")


def _read_keras_model(path: Path) -> Any:
    # Imported here: kedro-datasets' TensorFlowModelDataset imports TensorFlow as soon as the catalog is created.
    import keras

    with zipfile.ZipFile(path) as archive:  # Keras does not compare the checksums of the archive.
        if damaged := archive.testzip():
            raise ValueError(f"wrong checksum of {damaged}")
    return keras.models.load_model(path, compile=False, safe_mode=True)


def _read_profile(path: Path) -> Any:
    from cxr_pipeline.deployment.drift.reference_profile import ReferenceProfile

    return ReferenceProfile.load(path)


def _save(path: Path, data: Any) -> None:
    data.save(path)


_TEXT = (partial(Path.read_text, encoding="utf-8"), partial(Path.write_text, encoding="utf-8"))
_FORMATS: dict[str, tuple[Callable[[Path], Any], Callable[[Path, Any], object]]] = {
    ".json": (_read_json, _write_json),
    ".html": _TEXT,
    ".md": _TEXT,
    ".yml": _TEXT,
    ".png": (Path.read_bytes, Path.write_bytes),
    ".keras": (_read_keras_model, _save),
    ".npz": (_read_profile, _save),
}


class FileDataset(PathDataset):
    """A file whose suffix gives its format. It is written atomically: readers see the old content or the new.

    ``.json`` is strict JSON (no NaN), indented and in the order given, so that equal data give equal bytes; ``.html``,
    ``.md`` and ``.yml`` are text in UTF-8, ``.png`` bytes, ``.keras`` a Keras model, which is read in safe mode (no
    code is loaded from the file), and ``.npz`` a reference profile for drift, without pickles.

    Example of a catalog entry::

        metrics:
          type: cxr_pipeline.framework.datasets.FileDataset
          filepath: data/08_reporting/metrics.json
          metadata: {mlflow: artifact}

    Example:
        >>> dataset = FileDataset(filepath=tmp_path / "metrics.json")
        >>> dataset.save({"auc": 0.9})
        >>> dataset.load()
        {'auc': 0.9}
    """

    suffixes = tuple(_FORMATS)

    def _read(self) -> Any:
        read, _ = _FORMATS[self._filepath.suffix]
        return read(self._filepath)

    @property
    def preview(self) -> Callable[..., Any]:
        """The function that returns what kedro-viz shows of the file, if it shows files of this format."""
        return previews.of_file(self._filepath, self.metadata)

    def save(self, data: Any) -> None:
        """Replace the file."""
        _, write = _FORMATS[self._filepath.suffix]
        with written_atomically(self._filepath) as temporary:
            write(temporary, data)


class PreparedImagesDataset(FileDataset):
    """The handle of prepared images, which stay in the image store: a JSON file with its folder and the recipe.

    It exists when both the file and the folder of the images exist, so that ``--only-missing-outputs`` prepares
    deleted images again.
    """

    suffixes = (".json",)

    def _read(self) -> PreparedImages:
        return PreparedImages.from_dict(super()._read())

    def save(self, data: PreparedImages) -> None:
        """Write the handle."""
        super().save(data.to_dict())

    def _exists(self) -> bool:
        return super()._exists() and self.load().folder.is_dir()


class FiguresDataset(PathDataset):
    """Figures by name, as ``<name>.png`` in a folder; saving removes all other figures."""

    def _read(self) -> dict[str, bytes]:
        paths = sorted(path for path in self._filepath.iterdir() if path.match("[!.]*.png"))
        return {path.stem: path.read_bytes() for path in paths}

    def preview(self, *, first: str = "") -> previews.HTMLPreview:
        """Return the figures for kedro-viz, one of them first."""
        return previews.show_pictures(self.load(), first=first)

    def save(self, data: dict[str, bytes]) -> None:
        """Write the figures, then remove those of earlier runs."""
        for name, png in data.items():
            with written_atomically(self._filepath / f"{name}.png") as temporary:
                temporary.write_bytes(png)
        for path in self._filepath.glob("*.png"):
            if path.stem not in data:
                path.unlink()


class NewFilesDataset(PathDataset):
    """Contents by file name, text or, of ``.parquet`` files, bytes; saving adds files to a folder, overwriting none."""

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


class TableDataset(PathDataset):
    """A table in one file, Parquet or CSV by its suffix.

    In a CSV file, text that a spreadsheet program would run as a formula has a quote before it; ``load`` removes it.

    Args:
        columns_if_missing: Load an empty table with these columns if the file does not exist.
        text_columns: Columns of a CSV file that stay text even if they look like numbers.

    Example of a catalog entry::

        quarantine:
          type: cxr_pipeline.framework.datasets.TableDataset
          filepath: data/08_reporting/quarantine.csv
          text_columns: [image]

    Example:
        >>> dataset = TableDataset(filepath=tmp_path / "quarantine.csv", text_columns=["image"])
        >>> dataset.save(pd.DataFrame({"image": ["007"], "size": [0]}))
        >>> dataset.load()
          image  size
        0   007     0
    """

    suffixes = (".parquet", ".csv")

    def __init__(
        self,
        *,
        filepath: str | Path,
        columns_if_missing: list[str] | None = None,
        text_columns: Sequence[str] = (),
        metadata: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(filepath=filepath, metadata=metadata)
        self._columns_if_missing = columns_if_missing
        self._text_columns = text_columns
        if columns_if_missing is not None:  # A run reads it before it writes it.
            self.remedy = (
                "Restore a copy of it. If there is none, delete it: the next run starts without its content, and for "
                "splits.parquet assigns all images to splits again."
            )

    def _read(self) -> pd.DataFrame:
        if self._columns_if_missing is not None and not self._exists():
            return pd.DataFrame(columns=self._columns_if_missing, dtype="str")
        if self._filepath.suffix == ".parquet":
            return pd.read_parquet(self._filepath, page_checksum_verification=True)
        text = dict.fromkeys(self._text_columns, "str")
        table = pd.read_csv(self._filepath, keep_default_na=False, na_values=[""], dtype=text)
        return _map_text(table, lambda cell: cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell)

    def preview(self, *, rows: int = 0, count: Sequence[str] = ()) -> previews.TablePreview:
        """Return the first rows for kedro-viz, or the number of rows by ``count`` for a table of images or patients."""
        return previews.show_counts(self.load(), list(count)) if count else previews.show_table(self.load(), rows)

    def save(self, data: pd.DataFrame | Iterable[pd.DataFrame]) -> None:
        """Write a table, or the rows of one table after the other if it is too large for memory."""
        tables = iter([data] if isinstance(data, pd.DataFrame) else data)
        first = next(tables)
        write = _write_parquet if self._filepath.suffix == ".parquet" else _write_csv
        with written_atomically(self._filepath) as temporary:
            write(temporary, first, tables)


def _write_parquet(path: Path, first: pd.DataFrame, others: Iterable[pd.DataFrame]) -> None:
    schema = pa.Schema.from_pandas(first, preserve_index=False)
    with pq.ParquetWriter(path, schema, write_page_checksum=True) as writer:
        for table in chain([first], others):
            writer.write_table(pa.Table.from_pandas(table, schema, preserve_index=False))


def _write_csv(path: Path, first: pd.DataFrame, others: Iterable[pd.DataFrame]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        for table in chain([first], others):
            file.write(csv_text(table, header=table is first))


def csv_text(table: pd.DataFrame, *, header: bool = True) -> str:
    """Return a table as CSV with quoted text, and a quote before text that a spreadsheet program would run."""
    escaped = _map_text(table, lambda cell: f"'{cell}" if _FORMULA.match(cell) else cell)
    # Text is quoted because a file name may contain a line break.
    return escaped.to_csv(index=False, header=header, quoting=csv.QUOTE_NONNUMERIC)


def _map_text(table: pd.DataFrame, function: Callable[[str], str]) -> pd.DataFrame:
    """Apply a function to each cell that is text."""
    texts = table.select_dtypes(exclude=["number", "bool", "datetime", "datetimetz"])
    return table.assign(
        **{str(name): texts[name].map(lambda cell: function(cell) if isinstance(cell, str) else cell) for name in texts}
    )
