"""The interface through which the content of an image is read."""

from typing import Protocol


class Reader(Protocol):
    """Gives the films of one source. It can be sent to another process."""

    def read(self, path: str) -> bytes:
        """Read one film.

        Args:
            path: where the film is in the source, from ``Listing.films``.

        Returns:
            The content of a picture file, which ``images.decoding.decode`` understands.

        Raises:
            FilmRefused: there is no such film, or it cannot be read.
        """
        ...

    def n_bytes(self, path: str) -> int:
        """Tell, at little cost, how long the content of a film is in bytes; 0 where that is not known."""
        ...
