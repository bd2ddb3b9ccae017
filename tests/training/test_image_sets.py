import hashlib
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cxr_pipeline.training.image_sets import ImageSet, image_sets

IMAGES: Any = SimpleNamespace(digest="recipe")


def image_set(**changes: Any) -> ImageSet:
    arrays = {"sha256": ["a", "b", "c"], "y": [[1], [0], [0]], "weight": [2.0, 1.0, 1.0], "count": [3, 1, 1]}
    return ImageSet(images=IMAGES, **{name: np.array(values) for name, values in (arrays | changes).items()})


def test_prevalence_uses_counts_and_weights_and_ignores_unknown_labels() -> None:
    unweighted = ImageSet.unweighted(images=IMAGES, sha256=np.array(["a", "b", "c"]), y=np.array([[1], [0], [0]]))
    assert unweighted.prevalence == pytest.approx([1 / 3])
    y = [[1, np.nan, np.nan], [np.nan, 0, np.nan], [0, 1, np.nan]]
    np.testing.assert_allclose(image_set(y=y).prevalence, [6 / 7, 1 / 2, np.nan])


@pytest.mark.parametrize(
    ("row", "n_outputs", "message"),
    [
        ([1, 0], 3, "labels of 3 outputs"),
        ([1, 1], 2, "Expected one label 1 per image"),
        ([0, 0], 2, "Expected one label 1 per image"),
        ([1, np.nan], 2, "Expected one label 1 per image"),
    ],
)
def test_labels_must_match_the_outputs(row: list[float], n_outputs: int, message: str) -> None:
    image_set(y=[[1, 0], [0, 1], [1, 0]]).check_labels(n_outputs=2, exclusive=True)
    image_set(y=[[1, 1], [0, np.nan], [0, 0]]).check_labels(n_outputs=2, exclusive=False)
    with pytest.raises(ValueError, match=message):
        image_set(y=[[1, 0], row, [0, 1]]).check_labels(n_outputs=n_outputs, exclusive=True)


@pytest.mark.parametrize(
    "changes",
    [
        {"y": [[1], [0]]},
        {"y": [1, 0, 0]},
        {"y": [[1], [0], [2]]},
        {"sha256": [], "y": np.empty((0, 1)), "weight": [], "count": []},
    ],
    ids=["lengths", "no outputs", "third value", "no images"],
)
def test_inconsistent_arrays_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="Received: "):
        image_set(**changes)


@pytest.mark.parametrize(
    "changes",
    [{"sha256": ["a", "b", "d"]}, {"y": [[0], [1], [0]]}, {"weight": [1.0, 1.0, 1.0]}, {"count": [1, 1, 1]}],
    ids=lambda changes: next(iter(changes)),
)
def test_the_digest_depends_on_every_array(changes: dict[str, Any]) -> None:
    assert image_set().digest == image_set().digest
    assert image_set(**changes).digest != image_set().digest


def test_image_sets_are_the_planned_and_the_validation_images() -> None:
    sha256s = [hashlib.sha256(bytes([number])).hexdigest() for number in range(5)]
    rows = {"source": "s", "image": list("abcde"), "sha256": sha256s, "patient_id": list("vwxyz")}
    manifest = pd.DataFrame({**rows, "label_mass": [0, 1, np.nan, 1, 0], "label_nodule": [1, 0, 0, 1, 1]})
    splits = pd.DataFrame({**rows, "split": ["train", "train", "train", "validation", "test"]})
    plan = pd.DataFrame({"source": "s", "image": ["c", "a"], "sha256": [sha256s[2], sha256s[0]]})
    plan = plan.assign(count=[3, 1], weight=[0.5, 2.0])
    train, validation = image_sets(IMAGES, manifest, splits, plan, outputs=("nodule", "mass"))
    assert list(train.sha256) == [sha256s[2], sha256s[0]]
    np.testing.assert_array_equal(train.y, [[0, np.nan], [1, 0]])
    assert (list(train.count), list(train.weight)) == ([3, 1], [0.5, 2.0])
    assert list(validation.sha256) == [sha256s[3]]
    np.testing.assert_array_equal(validation.y, [[1, 1]])
    assert (list(validation.count), list(validation.weight)) == ([1], [1.0])
