"""Layout ``phantoms``: drawn films, kept on disk as an NIH release."""

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from cxr_pipeline.errors import UserError
from cxr_pipeline.sources import nih
from cxr_pipeline.sources.listing import Listing

_RECORD = "phantoms.json"


def read(folder: Path, *, n_patients: int, size: int, prevalence: Mapping[str, float], seed: int) -> Listing:
    """List the phantoms in ``folder``, drawn now unless they are there already.

    Args:
        folder: absent, empty, or drawn by this function.
        n_patients: patients to draw.
        size: side of a film in pixels.
        prevalence: for each finding, the fraction of films that show it.
        seed: same seed, same films.

    Raises:
        UserError: ``folder`` holds something else, which is left as it is, or cannot be written.
    """
    wanted = {"n_patients": n_patients, "size": size, "prevalence": dict(prevalence), "seed": seed}
    if _drawn(folder) != wanted:
        _draw(folder, wanted)
    return nih.read(folder)


def _drawn(folder: Path) -> object:
    """Read with which parameters the films in ``folder`` were drawn; ``None`` where there are none."""
    try:
        return json.loads((folder / _RECORD).read_text("utf-8"))
    except (OSError, ValueError):
        return None


def _draw(folder: Path, wanted: Mapping[str, object]) -> None:
    from cxr_pipeline.phantoms.release import write_release

    try:
        if folder.exists() and not (folder / _RECORD).exists() and any(folder.iterdir()):
            raise UserError(
                f"{folder} holds files that are no phantoms, and drawing would replace them. Expected a folder that "
                f"is absent, empty or holds {_RECORD}: name another one as the path of the source."
            )
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as beside:
            release = Path(beside) / folder.name
            write_release(release, **wanted)
            (release / _RECORD).write_text(json.dumps(wanted, indent=2), "utf-8")
            if folder.exists():
                shutil.rmtree(folder)
            release.replace(folder)
    except OSError as error:
        raise UserError(
            f"the phantoms could not be written to {folder}: {error.strerror or error}. Expected a folder that this "
            "user may write and room on its disk. Mend that and run the same command again."
        ) from error
