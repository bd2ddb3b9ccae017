"""The content of a film file as a sha256, with a look at where the file really lies."""

import hashlib
import os
import stat
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.progress import track

from cxr_pipeline.errors import FilmRefused

_WORTH_A_PROGRESS_BAR = 1000


def fingerprint(folder: Path, path: str) -> str:
    """Hash one film.

    Args:
        folder: the source's folder, without links in it (``Path.resolve``).
        path: POSIX path of the film, relative to ``folder``.

    Returns:
        sha256 of the content, 64 hexadecimal digits.

    Raises:
        FilmRefused: the path or a link in it leads out of ``folder`` (``outside_source``), the file has no
            bytes (``empty``), or it cannot be read (``unreadable``).
    """
    try:
        film = Path(os.path.realpath(folder / path, strict=True))
        if not film.is_relative_to(folder):
            raise FilmRefused("outside_source", "its path or a link in it leads out of the source's folder")
        facts = film.stat()
        if not stat.S_ISREG(facts.st_mode):
            raise FilmRefused("unreadable", "not a regular file")
        if facts.st_size == 0:
            raise FilmRefused("empty", "zero bytes")
        with film.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise FilmRefused("unreadable", error.strerror or type(error).__name__) from error


def fingerprints(folder: Path, paths: Sequence[str]) -> pd.DataFrame:
    """Hash many films, each read once, on as many threads as there are cores.

    Args:
        folder: the source's folder.
        paths: POSIX paths of the films, relative to ``folder``.

    Returns:
        ``sha256``, ``reason``, ``detail`` in the order of ``paths``; a refused film has no ``sha256``, any other
        no ``reason``.
    """
    root = folder.resolve()

    def outcome(path: str) -> tuple[str | None, str | None, str | None]:
        try:
            return fingerprint(root, path), None, None
        except FilmRefused as refusal:
            return None, refusal.reason, refusal.detail

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as threads:
        rows = list(
            track(
                threads.map(outcome, paths),
                description="Reading films",
                total=len(paths),
                console=Console(stderr=True),
                disable=len(paths) < _WORTH_A_PROGRESS_BAR,
            )
        )
    return pd.DataFrame(rows, columns=["sha256", "reason", "detail"]).astype("str")
