"""``PreparedImagesDataset`` stores the handle of prepared images; the images stay in the image store."""

import json
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset

from cxr_pipeline.common.files import written_atomically
from cxr_pipeline.data.images.store import PreparedImages, store_folder


class PreparedImagesDataset(AbstractDataset[PreparedImages, PreparedImages]):
    """A small JSON file with the folder of the image stores and the recipe.

    It exists when both the file and the folder of the images exist, so that ``--only-missing-outputs`` prepares
    deleted images again.

    Args:
        filepath: path of the JSON file.
        metadata: for plugins, such as the layer for kedro-viz.

    Example:
        >>> from cxr_pipeline.data.images.recipe import Recipe
        >>> dataset = PreparedImagesDataset(filepath=str(tmp_path / "images.json"))
        >>> dataset.save(PreparedImages(tmp_path / "images", Recipe(size=224, mode="fit", max_megapixels=100)))
        >>> dataset.load().recipe.size
        224
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = Path(filepath)
        self.metadata = metadata

    def load(self) -> PreparedImages:
        """Read the handle."""
        return PreparedImages.from_dict(json.loads(self._filepath.read_text(encoding="utf-8")))

    def save(self, data: PreparedImages) -> None:
        """Write the handle."""
        with written_atomically(self._filepath) as beside:
            beside.write_text(json.dumps(data.to_dict(), indent=2) + "\n", encoding="utf-8")

    def _exists(self) -> bool:
        if not self._filepath.is_file():
            return False
        images = self.load()
        return store_folder(images.folder, images.recipe).is_dir()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}
