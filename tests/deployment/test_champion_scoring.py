from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from stub_models import fixed_rule, grey_network, score

from cxr_pipeline.data.images.recipe import Recipe
from cxr_pipeline.data.sources.content_hashes import content_hashes
from cxr_pipeline.data.sources.readers import FileReader
from cxr_pipeline.deployment.classifier import ImageClassifier
from cxr_pipeline.deployment.promotion import score_images

SIZE = 32


@pytest.fixture(scope="module")
def champion() -> ImageClassifier:
    """A version whose recipe has a step and a low limit of megapixels."""
    steps = ({"operation": "denoise", "size": 3},)
    recipe = Recipe(size=SIZE, mode="stretch", max_megapixels=0.005, steps=steps)
    return ImageClassifier(grey_network(SIZE), recipe, fixed_rule(("well", "ill"), calibration="platt"), {})


@pytest.fixture
def images(tmp_path: Path) -> tuple[pd.DataFrame, FileReader]:
    """Four images; the last exceeds the limit of the champion."""
    rng = np.random.default_rng(5)
    (tmp_path / "images").mkdir()
    for number, side in enumerate((50, 60, 40, 90)):
        cv2.imwrite(str(tmp_path / "images" / f"{number}.png"), rng.integers(0, 256, (side, 60), np.uint8))
    reader = FileReader(tmp_path / "images")
    names = [f"{number}.png" for number in range(4)]
    table = pd.DataFrame({"source": "a", "image": names, "path": names, "patient_id": list("ppqq")})
    labels = [0.0, 1.0, np.nan, 1.0]
    return table.assign(sha256=content_hashes(reader, names)["sha256"], label_ill=labels), reader


def test_images_are_scored_with_the_recipe_and_rule_of_the_champion(champion, images, tmp_path: Path) -> None:
    table, reader = images
    scores = score_images(champion, table, {"a": reader}, outputs=("ill",), folder=tmp_path / "images", workers=1)
    assert scores["image"].tolist() == ["0.png", "1.png", "2.png"]
    expected = score(champion, [(tmp_path / "images" / name).read_bytes() for name in table["image"]])
    assert expected["status"].tolist() == ["scored"] * 3 + ["refused"]
    np.testing.assert_allclose(scores["probability_ill"], expected["probability"][:3], atol=1e-6)
    assert scores["decision"].tolist() == expected["decision"][:3].tolist()
    assert scores["predicted_ill"].tolist() == (scores["decision"] == "ill").tolist()
    np.testing.assert_array_equal(scores["true_ill"], table["label_ill"][:3])
    assert scores["patient_id"].tolist() == ["p", "p", "q"]
