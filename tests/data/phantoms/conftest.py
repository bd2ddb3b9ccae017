import numpy as np
import pytest

from cxr_pipeline.data.phantoms.chest import Anatomy
from cxr_pipeline.data.phantoms.radiograph import draw_radiograph


@pytest.fixture(scope="session")
def radiograph():
    """Draw a radiograph of a patient, with everything at random but the arguments."""

    def draw(patient, visit=0, *, size=64, findings=(), view="PA"):
        anatomy = Anatomy(np.random.default_rng([patient, 1]), sex="FM"[patient % 2])
        rng = np.random.default_rng([patient, 2, visit])
        return draw_radiograph(rng, size=size, anatomy=anatomy, findings=findings, view=view)

    return draw
