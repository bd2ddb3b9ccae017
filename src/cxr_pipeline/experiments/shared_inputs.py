"""What cells take from the run that they belong to: rows are read once, and no patient changes its split."""

import shutil
from pathlib import Path

from cxr_pipeline.common.files import written_atomically

# Names in the catalog, without the task, and where the files lie below ``data/``.
INPUTS = {
    "images": "02_intermediate/{}/images.parquet",
    "refused_rows": "02_intermediate/{}/refused_rows.parquet",
    "source_counts": "02_intermediate/{}/source_counts.json",
    "earlier_splits": "05_model_input/{}/splits.parquet",
}


def keep_inputs(data: Path, folder: Path, task: str) -> str:
    """Copy them, so that cells that start hours later find what the first one found, whatever runs meanwhile.

    Args:
        data: where they lie.
        folder: gets the copies, laid out as ``data``.
        task: name of the task.

    Returns:
        the folder.

    Raises:
        UserError: it cannot be written.
    """
    for place in INPUTS.values():
        with written_atomically(folder / place.format(task)) as beside:
            shutil.copyfile(data / place.format(task), beside)
    return str(folder)
