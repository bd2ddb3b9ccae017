"""Nodes of the ingestion stage."""

import pandas as pd

from cxr_pipeline import manifest
from cxr_pipeline.config import Folders, Sources, Task
from cxr_pipeline.sources import read_source


def list_films(sources: Sources, folders: Folders, task: Task) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, object]]:
    """Read every source, and refuse the rows that cannot be used whatever their pixels are.

    Returns:
        films, refused rows, and for each source how its rows were counted.
    """
    listings = {}
    for name, source in sources.root.items():
        folder = folders.raw / source.path
        options = source.model_dump(exclude={"layout", "path"})
        listings[name] = (folder, read_source(source.layout, folder, **options))
    return manifest.list_films(listings, classes=task.classes)
