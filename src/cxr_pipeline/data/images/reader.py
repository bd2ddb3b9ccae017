"""The interface through which the content of an image is read."""

from typing import Protocol


class Reader(Protocol):
    """Gives the images of one source. It can be sent to another process."""

    def read(self, path: str) -> bytes:
        """Read one image.

        Args:
            path: where the image is in the source, from ``Listing.images``.

        Returns:
            The content of a picture file, which ``images.decoding.decode`` understands.

        Raises:
            ImageRefused: there is no such image, or it cannot be read.
        """
        ...

    def n_bytes(self, path: str) -> int:
        """Tell, at little cost, how long the content of an image is in bytes; 0 where that is not known."""
        ...
