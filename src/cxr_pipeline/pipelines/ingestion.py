"""The ingestion stage."""

import pandas as pd

from cxr_pipeline.data import manifest
from cxr_pipeline.framework.config import Folders, Sources, Task
from cxr_pipeline.pipelines.stage import Pipeline, node, stage


def list_images(sources: Sources, folders: Folders, task: Task) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, object]]:
    """List the images of every source, and refuse the rows that cannot be used regardless of their pixels."""
    readers = sources.readers(folders)
    listings = {name: (readers[name], source.list_images(folders)) for name, source in sources.root.items()}
    return manifest.list_images(listings, labels=task.labels, hash_cache=folders.content_hashes)


def create_pipeline() -> Pipeline:
    """Create the pipeline from the sources to the table of images."""
    return stage("ingestion", node(list_images, ["images", "refused_rows", "source_counts"]))
