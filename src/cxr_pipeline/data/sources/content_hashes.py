"""The content of an image as a sha256."""

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
from rich.console import Console
from rich.progress import track

from cxr_pipeline.common.errors import ImageRefused
from cxr_pipeline.data.images.reader import Reader

_WORTH_A_PROGRESS_BAR = 1000


def fingerprint(reader: Reader, path: str) -> str:
    """Hash one image.

    Args:
        reader: gives the images of the source.
        path: where the image is in the source.

    Returns:
        sha256 of the content, 64 hexadecimal digits.

    Raises:
        ImageRefused: the image has no bytes (``empty``), or the reader refuses it.
    """
    content = reader.read(path)
    if not content:
        raise ImageRefused("empty", "zero bytes")
    return hashlib.sha256(content).hexdigest()


def content_hashes(reader: Reader, paths: Sequence[str]) -> pd.DataFrame:
    """Hash many images, each read once, on as many threads as there are cores.

    Args:
        reader: gives the images of the source.
        paths: where the images are in the source.

    Returns:
        ``sha256``, ``reason``, ``detail`` in the order of ``paths``; a refused image has no ``sha256``, any other
        no ``reason``.
    """

    def outcome(path: str) -> tuple[str | None, str | None, str | None]:
        try:
            return fingerprint(reader, path), None, None
        except ImageRefused as refusal:
            return None, refusal.reason, refusal.detail

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as threads:
        rows = list(
            track(
                threads.map(outcome, paths),
                description="Reading images",
                total=len(paths),
                console=Console(stderr=True),
                disable=len(paths) < _WORTH_A_PROGRESS_BAR,
            )
        )
    return pd.DataFrame(rows, columns=["sha256", "reason", "detail"]).astype("str")
