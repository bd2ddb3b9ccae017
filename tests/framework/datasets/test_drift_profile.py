import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from kedro.io import DatasetError

from cxr_pipeline.deployment.drift.image_features import ImageFeatures
from cxr_pipeline.deployment.drift.reference_profile import ReferenceProfile
from cxr_pipeline.framework.datasets.drift_profile import DriftProfileDataset


def profile():
    rng = np.random.default_rng(0)
    images = ImageFeatures(*(rng.random((8, n)).astype(np.float32) for n in (11, 4, 1, 1)), np.full(8, ""))
    return ReferenceProfile.fit(images, images, outputs=("ill",), seed=0)


def test_a_profile_comes_back_as_it_was(tmp_path: Path) -> None:
    dataset = DriftProfileDataset(filepath=str(tmp_path / "new" / "profile.npz"))
    assert not dataset.exists()
    kept = profile()
    dataset.save(kept)
    assert dataset.exists()
    for name, array in kept.to_arrays().items():
        np.testing.assert_array_equal(dataset.load().to_arrays()[name], array)


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="profile"):
        DriftProfileDataset(filepath=str(tmp_path / "profile.npz")).load()


def test_naming_it_starts_neither_opencv_nor_scikit_learn() -> None:
    code = (
        "import sys, cxr_pipeline.framework.datasets.drift_profile, cxr_pipeline.tracking.drift_profiles;"
        "print({'tensorflow', 'keras', 'sklearn', 'cv2'} & set(sys.modules))"
    )
    called = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert called.stdout.strip() == "set()", called.stderr
