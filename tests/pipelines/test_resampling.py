"""Tests of the nodes of the resampling stage."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxr_pipeline.data.images.recipe import Recipe
from cxr_pipeline.framework.config import Augmentation
from cxr_pipeline.pipelines.resampling import nodes

SHA256S = ["a" * 64, "b" * 64]


class Images:
    """Two prepared images, by content."""

    folder, recipe = Path(), Recipe(size=32, mode="fit", max_megapixels=1)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32), dtype=np.uint8)

    def read(self, sha256s: list[str]) -> np.ndarray:
        return self.pixels[[SHA256S.index(sha256) for sha256 in sha256s]]


def test_the_preview_starts_with_the_image_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    monkeypatch.setattr(nodes, "augmentation_preview", lambda images: drawn.append(images) or b"png")
    augmentation = Augmentation(
        rotation=10, translation=0.1, zoom=0, brightness=0, contrast=0, noise=0, flip=False, views=1, seed=1
    )
    plan = pd.DataFrame({"sha256": SHA256S[::-1]})
    assert nodes.preview_augmentation(Images(), plan, augmentation) == b"png"
    (images,) = drawn
    assert images.shape == (2, 5, 32, 32)
    np.testing.assert_array_equal(images[:, 0], Images.pixels)
    assert all((images[:, view] != Images.pixels).any() for view in range(1, 5))
