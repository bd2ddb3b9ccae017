"""Nodes of the ingestion stage."""

import pandas as pd

from cxr_pipeline.data import manifest
from cxr_pipeline.data.sources import open_source, read_source
from cxr_pipeline.framework.config import Folders, Sources, Task


def list_images(sources: Sources, folders: Folders, task: Task) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, object]]:
    """Read every source, and refuse the rows that cannot be used whatever their pixels are.

    Returns:
        images, refused rows, and for each source how its rows were counted.
    """
    listings = {}
    for name, source in sources.root.items():
        folder = folders.raw / source.path
        reader = open_source(source.layout, folder, unpacked=folders.unpacked, **source.options)
        listings[name] = (reader, read_source(source.layout, folder, **source.options))
    return manifest.list_images(listings, labels=task.labels)
