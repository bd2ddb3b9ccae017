"""``PreparedImagesDataset`` stores the handle of prepared images; the images stay in the image store."""

from cxr_pipeline.data.images.store import PreparedImages
from cxr_pipeline.framework.datasets.files import FileDataset


class PreparedImagesDataset(FileDataset):
    """A small JSON file with the folder of the image stores and the recipe.

    It exists when both the file and the folder of the images exist, so that ``--only-missing-outputs`` prepares
    deleted images again.

    Example of a catalog entry::

        enhanced_images:
          type: cxr_pipeline.framework.datasets.prepared_images.PreparedImagesDataset
          filepath: data/03_primary/enhanced_images.json
    """

    suffixes = (".json",)

    def _read(self) -> PreparedImages:
        return PreparedImages.from_dict(super()._read())

    def save(self, data: PreparedImages) -> None:
        """Write the handle."""
        super().save(data.to_dict())

    def _exists(self) -> bool:
        return super()._exists() and self.load().folder.is_dir()
