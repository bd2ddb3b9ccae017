"""The interface for reading the content of images."""

from typing import Protocol


class Reader(Protocol):
    """Reads the images of one source. It can be pickled and sent to another process."""

    def read(self, path: str) -> bytes:
        """Read one image.

        Args:
            path: path of the image within the source, from ``Listing.images``.

        Returns:
            The content of an image file, for `cxr_pipeline.data.images.decoding.decode`.

        Raises:
            ImageRefused: the image does not exist or cannot be read.
        """
        ...

    def version(self, path: str) -> tuple[int, int] | None:
        """Return the size in bytes and the modification time in ns of an image file; None if they are unknown."""
        ...
