"""What kedro-viz shows of a dataset: previews, whose kind it reads from the name of the return type."""

import base64
import html
import json
import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NewType

import pandas as pd

HTMLPreview = NewType("HTMLPreview", str)
ImagePreview = NewType("ImagePreview", str)
JSONPreview = NewType("JSONPreview", str)
TablePreview = NewType("TablePreview", dict[str, Any])
TextPreview = NewType("TextPreview", str)


def show_pictures(pngs: Mapping[str, bytes], *, first: str) -> HTMLPreview:
    """Return PNG files, below one another with their names, the one called ``first`` at the top."""
    figures = (
        f'<p>{html.escape(name.replace("_", " "))}</p><img width="100%" src="data:image/png;base64,{_base64(png)}">'
        for name, png in sorted(pngs.items(), key=lambda item: item[0] != first)
    )
    return HTMLPreview("".join(figures))


def _base64(png: bytes) -> str:
    return base64.b64encode(png).decode()


def show_table(table: pd.DataFrame, rows: int) -> TablePreview:
    """Return the first rows of a table, with four digits of each figure."""
    return TablePreview(table.head(rows).map(_cell).to_dict("split"))


def _cell(value: object) -> object:
    if isinstance(value, float):
        return "" if math.isnan(value) else format(value, ".4g")
    return "" if value is None else value


def show_counts(table: pd.DataFrame, columns: list[str]) -> TablePreview:
    """Return the number of rows for each combination of values of columns, the values of no single row.

    Example:
        >>> show_counts(pd.DataFrame({"image": ["1.png", "2.png"], "split": ["train", "train"]}), ["split"])["data"]
        [['train', 2]]
    """
    counts = table.value_counts(columns, dropna=False).reset_index(name="rows")
    return show_table(counts, len(counts))


def show_json(path: Path) -> JSONPreview:
    """Return a JSON document."""
    return JSONPreview(path.read_text("utf-8"))


def show_rows(path: Path, *, rows: str) -> TablePreview:
    """Return the value of one key of a JSON document, a mapping of mappings, as a table with a row for each."""
    table = pd.DataFrame.from_dict(json.loads(path.read_text("utf-8"))[rows], orient="index")
    return show_table(table.reset_index(names=rows), len(table))


def show_picture(path: Path) -> ImagePreview:
    """Return a PNG file."""
    return ImagePreview(_base64(path.read_bytes()))


def show_text(path: Path) -> TextPreview:
    """Return a text file."""
    return TextPreview(path.read_text("utf-8"))


_OF_SUFFIX: dict[str, Callable[..., Any]] = {
    ".json": show_json,
    ".md": show_text,
    ".yml": show_text,
    ".png": show_picture,
}


def of_file(path: Path, metadata: Mapping[str, Any] | None) -> Callable[..., Any]:
    """Return the function that previews a file, with the ``preview_args`` of its catalog entry as arguments.

    A page has none, which is an `AttributeError`: its style would change that of kedro-viz.
    """
    arguments = (metadata or {}).get("kedro-viz", {}).get("preview_args", {})
    function = show_rows if "rows" in arguments else _OF_SUFFIX.get(path.suffix)
    if function is None:
        raise AttributeError(f"There is no preview of {path.suffix} files.")
    return partial(function, path)
