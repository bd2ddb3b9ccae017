"""Layout ``phantoms``: synthetic images, written to disk in the format of an NIH release."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Interval

from cxr_pipeline import __version__
from cxr_pipeline.common.errors import UserError
from cxr_pipeline.common.files import written_atomically
from cxr_pipeline.data.sources import nih
from cxr_pipeline.data.sources.listing import Listing

EXPECTED = "any folder that is missing, empty or contains phantoms: the images are generated"

_RECORD = "phantoms.json"


def read(
    folder: Path,
    *,
    n_patients: Annotated[int, Ge(3)],
    size: Annotated[int, Interval(ge=32, le=4096)] = 256,
    prevalence: Mapping[str, Annotated[float, Interval(ge=0, le=1)]],
    seed: Annotated[int, Interval(ge=0, lt=2**31)] = 0,
) -> Listing:
    """List the phantoms in ``folder``, and generate them first if necessary, see ``phantoms.write_release``.

    They are generated again when a parameter or the version of this package differs from that in ``phantoms.json``.

    Args:
        folder: folder of the source.
        n_patients: number of patients.
        size (pixels): side of the images.
        prevalence: share of the patients with each finding.
        seed: seed of the images.
    """
    from cxr_pipeline.data.phantoms import write_release

    parameters: dict[str, Any] = {"n_patients": n_patients, "size": size, "prevalence": dict(prevalence), "seed": seed}
    record, file = json.dumps({"version": __version__, **parameters}, indent=2), folder / _RECORD
    try:
        if not file.is_file() or file.read_bytes() != record.encode():
            write_release(folder, **parameters)
            # Last, so that phantoms left by a killed run are generated again.
            with written_atomically(file) as beside:
                beside.write_text(record, "utf-8")
    except OSError as error:
        raise UserError(
            f"the phantoms cannot be written to {folder}: {error.strerror or error}. Make sure that this user can "
            "write the folder and that its disk has room, and run the same command again."
        ) from error
    return nih.read(folder)


def holds_images(folder: Path) -> bool:
    """Return True: missing phantoms are generated."""
    return True
