"""``FiguresDataset`` keeps named PNG pictures in a folder."""

from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset, DatasetError

from cxr_pipeline.common.files import written_atomically


class FiguresDataset(AbstractDataset[dict[str, bytes], dict[str, bytes]]):
    """A folder of ``<name>.png``; saving leaves exactly the pictures given.

    Args:
        filepath: the folder.

    Example:
        >>> dataset = FiguresDataset(filepath=tmp_path / "figures")  # doctest: +SKIP
        >>> dataset.save({"roc": png})  # doctest: +SKIP
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = Path(filepath)
        self.metadata = metadata

    def load(self) -> dict[str, bytes]:
        """Read every picture, by name."""
        if not self._exists():
            raise DatasetError(f"no folder of figures at {self._filepath}")
        return {path.stem: path.read_bytes() for path in sorted(self._filepath.glob("*.png"))}

    def save(self, data: dict[str, bytes]) -> None:
        """Write the pictures, and remove those of an earlier run that have no successor."""
        for name, png in data.items():
            with written_atomically(self._filepath / f"{name}.png") as beside:
                beside.write_bytes(png)
        for path in self._filepath.glob("*.png"):
            if path.stem not in data:
                path.unlink()

    def _exists(self) -> bool:
        return self._filepath.is_dir()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}
