import cv2
import numpy as np
import pandas as pd
import pytest

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.images.recipe import Recipe
from cxr_pipeline.data.sources import open_source, read_source
from cxr_pipeline.data.sources.labels import LabelMap
from cxr_pipeline.deployment.classifier import ImageClassifier
from cxr_pipeline.deployment.drift.new_images import NewImages


@pytest.fixture
def classifier(network, rule) -> ImageClassifier:
    return ImageClassifier(network, Recipe(size=48, mode="fit", max_megapixels=1), rule, {"images": "phantom"})


@pytest.fixture
def folder(images, tmp_path):
    for name, image in {"ill/a_1": 0, "ill/a_2": 1, "ill/b_1": 2, "well/c_1": 3, "well/c_2": 4, "other/d_1": 5}.items():
        path = tmp_path / "new" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), images[image])
    (tmp_path / "new" / "well" / "e_1.png").write_text("no image")
    return tmp_path / "new"


LOOK = {"max_images": 100, "batch_size": 2, "seed": 0}


def test_images_of_a_bare_folder_have_neither_patients_nor_labels(folder, classifier) -> None:
    new = NewImages.in_folder(str(folder), key="t.drift.folder")
    seen, counts = new.look(classifier, **LOOK)
    assert counts == {
        "images": 7,
        "left_out": 0,
        "without_patient": 7,
        "drawn": 7,
        "looked_at": 6,
        "refused": {"unreadable": 1},
    }
    assert len(seen) == 6
    assert set(seen.source) == {""}
    assert np.isnan(seen.y_true).all()


def test_images_of_a_source_have_both(folder, classifier, images) -> None:
    options = {"patient_id": "^([a-z])_"}
    listing = read_source("class_folders", folder, **options)
    labels = LabelMap({"well": ("well",), "ill": ("ill",)}, (), "unknown", exclusive=True)
    new = NewImages.in_listing(listing, open_source("class_folders", folder, unpacked=folder, **options), labels)
    seen, counts = new.look(classifier, **LOOK)
    assert (counts["images"], counts["left_out"], counts["without_patient"]) == (6, 1, 0)
    assert (counts["drawn"], counts["looked_at"]) == (4, 3)
    assert sorted(seen.y_true[:, 0].tolist()) == [0, 1, 1]
    by_label = {label: set() for label in (0.0, 1.0)}
    for statistics, label in zip(seen.statistics, seen.y_true[:, 0], strict=True):
        by_label[label].add(round(float(statistics[0]), 4))
    grey = [round(float(image.mean()), 4) for image in images[:5].astype(np.float32)]
    assert by_label[0.0] <= set(grey[3:])
    assert by_label[1.0] <= set(grey[:3])


def test_labels_and_sources_stay_with_their_images_when_others_are_refused(images, classifier) -> None:
    class Reader:
        def read(self, path: str) -> bytes:
            return b"" if path == "2" else cv2.imencode(".png", images[int(path)])[1].tobytes()

    rows = {
        "source": list("aabab"),
        "path": list("01234"),
        "patient_id": None,
        "label_ill": [0.0, 1.0, np.nan, 1.0, 0.0],
    }
    seen, _ = NewImages(dict.fromkeys("ab", Reader()), pd.DataFrame(rows)).look(classifier, **LOOK)
    assert seen.y_true[:, 0].tolist() == [0, 1, 1, 0]
    assert seen.source.tolist() == list("aaab")
    np.testing.assert_allclose(seen.statistics[:, 0], images[[0, 1, 3, 4]].mean(axis=(1, 2)), rtol=1e-5)


def test_at_most_so_many_are_looked_at(folder, classifier) -> None:
    seen, counts = NewImages.in_folder(str(folder), key="k").look(classifier, **{**LOOK, "max_images": 3})
    assert (len(seen) + sum(counts["refused"].values()), counts["drawn"]) == (3, 3)


def test_a_folder_that_is_not_there_is_named() -> None:
    with pytest.raises(UserError, match=r"effusion\.drift\.folder"):
        NewImages.in_folder(None, key="effusion.drift.folder")
