"""A simulated hospital whose phantom images arrive day by day, and images that are never used for training."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from cxr_pipeline.data.phantoms import PhantomImage, draw_patient

FINDING, NOTHING = "Effusion", "No Finding"
SIZE, PREVALENCE, SEED = 48, {FINDING: 0.45}, 11
FIRST_PATIENT, NEVER_SEEN = 1_000, 1_000_000

Change = Callable[[np.ndarray], np.ndarray]


def patient_images(patient: int) -> Iterator[PhantomImage]:
    """Draw the images of a patient."""
    return draw_patient(patient, size=SIZE, prevalence=PREVALENCE, seed=SEED)


def negative(pixels: np.ndarray) -> np.ndarray:
    """Invert an image, as a console with the wrong setting does."""
    return 255 - pixels


@dataclass
class Hospital:
    """A growing source with the layout of NIH's release.

    Args:
        folder: Folder of the release.
        images: Day of arrival and finding of each image.
    """

    folder: Path
    images: dict[str, tuple[int, str]] = field(default_factory=dict)
    _next: int = FIRST_PATIENT

    def receive(self, day: int, *, n_patients: int, change: Change = np.asarray) -> None:
        """Add the images of new patients, after applying ``change`` to their pixels."""
        (self.folder / "images").mkdir(parents=True, exist_ok=True)
        for patient in range(self._next, self._next + n_patients):
            for image in patient_images(patient):
                cv2.imwrite(str(self.folder / "images" / image.name), change(image.pixels))
                self.images[image.name] = (day, FINDING if image.labels else NOTHING)
        self._next += n_patients
        self.write_labels()

    def remove(self, day: int) -> None:
        """Remove the images that arrived on a day."""
        for image in [image for image, (arrival, _) in self.images.items() if arrival == day]:
            (self.folder / "images" / image).unlink()
            del self.images[image]
        self.write_labels()

    def write_labels(self, wrong: Callable[[int], bool] = lambda day: False) -> None:
        """Write the label table; images that arrived on a day for which ``wrong`` is true get the opposite label."""
        other = {FINDING: NOTHING, NOTHING: FINDING}
        rows = {
            "Image Index": list(self.images),
            "Finding Labels": [other[label] if wrong(day) else label for day, label in self.images.values()],
            "Patient ID": [int(image[:8]) for image in self.images],
            **dict.fromkeys(("Patient Age", "Patient Gender", "View Position"), ""),
        }
        pd.DataFrame(rows).to_csv(self.folder / "Data_Entry_2017_daily.csv", index=False)


def draw_outside(folder: Path, n_patients: int) -> "pd.Series[bool]":
    """Draw one image of each of some patients outside the hospital; return whether each shows an effusion."""
    folder.mkdir(parents=True)
    shows = {}
    for patient in range(NEVER_SEEN, NEVER_SEEN + n_patients):
        image = next(patient_images(patient))
        cv2.imwrite(str(folder / image.name), image.pixels)
        shows[image.name] = bool(image.labels)
    return pd.Series(shows)
