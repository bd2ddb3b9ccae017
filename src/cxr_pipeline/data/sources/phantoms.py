"""Layout ``phantoms``: drawn images, kept on disk as an NIH release."""

import json
from collections.abc import Mapping
from pathlib import Path

from cxr_pipeline import __version__
from cxr_pipeline.common.errors import UserError
from cxr_pipeline.common.files import written_atomically
from cxr_pipeline.data.sources import nih
from cxr_pipeline.data.sources.listing import Listing
from cxr_pipeline.data.sources.readers import FileReader

EXPECTED = "any folder that is absent, empty or holds phantoms: the images are drawn"

_RECORD = "phantoms.json"


def read(folder: Path, *, n_patients: int, size: int, prevalence: Mapping[str, float], seed: int) -> Listing:
    """List the phantoms in ``folder``, drawn now unless they are there already.

    They are drawn again when a parameter or the version of this package is not that of ``phantoms.json``.

    Args:
        folder: absent, empty, or with phantoms in it.
        n_patients: patients to draw.
        size: side of an image in pixels.
        prevalence: for each finding, the fraction of images that show it.
        seed: same seed, same images.

    Raises:
        UserError: a parameter is impossible, or ``folder`` holds something else or cannot be written.
    """
    record = {
        "version": __version__,
        "n_patients": n_patients,
        "size": size,
        "prevalence": dict(prevalence),
        "seed": seed,
    }
    if _recorded(folder) != record:
        _draw(folder, n_patients=n_patients, size=size, prevalence=prevalence, seed=seed)
        with written_atomically(folder / _RECORD) as beside:
            beside.write_text(json.dumps(record, indent=2), "utf-8")
    return nih.read(folder)


def reader(folder: Path, **_: object) -> FileReader:
    """Give what reads the images that ``read`` lists."""
    return FileReader(folder)


def holds_images(folder: Path) -> bool:
    """Tell that nothing is missing: phantoms that are not there are drawn."""
    return True


def _recorded(folder: Path) -> object:
    """Read how the images in ``folder`` were drawn; ``None`` where that is not known."""
    try:
        return json.loads((folder / _RECORD).read_text("utf-8"))
    except (OSError, ValueError):
        return None


def _draw(folder: Path, *, n_patients: int, size: int, prevalence: Mapping[str, float], seed: int) -> None:
    from cxr_pipeline.data.phantoms import write_release

    try:
        write_release(folder, n_patients=n_patients, size=size, prevalence=prevalence, seed=seed)
    except OSError as error:
        raise UserError(
            f"the phantoms could not be written to {folder}: {error.strerror or error}. Expected a folder that this "
            "user may write and room on its disk. Mend that and run the same command again."
        ) from error
