import cv2
import numpy as np
import pandas as pd
import pytest

from cxr_pipeline.data.images.recipe import Recipe
from cxr_pipeline.data.sources import LAYOUTS
from cxr_pipeline.data.sources.labels import LabelMap
from cxr_pipeline.deployment.classifier import ImageClassifier
from cxr_pipeline.deployment.drift.new_images import NewImages

SETTINGS = {"max_images": 100, "batch_size": 2, "seed": 0}


@pytest.fixture
def classifier(network, rule):
    return ImageClassifier(network, Recipe(size=48, mode="fit", max_megapixels=1), rule, {"images": "phantom"})


@pytest.fixture
def folder(images, tmp_path):
    names = ["ill/a_1", "ill/a_2", "ill/b_1", "well/c_1", "well/c_2", "other/d_1"]
    for name, image in zip(names, images, strict=False):
        path = tmp_path / "new" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), image)
    (tmp_path / "new" / "well" / "e_1.png").write_text("not an image")
    return tmp_path / "new"


def test_images_of_a_source_have_patients_and_labels(folder, classifier, images):
    options = {"patient_id": "^([a-z])_"}
    listing = LAYOUTS["class_folders"].read(folder, **options)
    labels = LabelMap({"well": ("well",), "ill": ("ill",)}, (), "unknown", exclusive=True)
    new = NewImages.from_listing(listing, LAYOUTS["class_folders"].reader(folder, unpacked=folder, **options), labels)
    features, counts = new.extract_features(classifier, **SETTINGS)
    assert (counts["images"], counts["left_out"], counts["without_patient"]) == (6, 1, 0)
    assert (counts["drawn"], counts["looked_at"]) == (4, 3)
    grey = images[:5].mean(axis=(1, 2))
    nearest = np.abs(features.statistics[:, :1] - grey).argmin(axis=1)
    assert features.y_true[:, 0].tolist() == [float(number < 3) for number in nearest]
    assert sorted(features.y_true[:, 0]) == [0, 1, 1]


def test_refused_images_do_not_shift_labels_and_sources(images, classifier):
    class Reader:
        def read(self, path):
            return b"" if path in "25" else cv2.imencode(".png", images[int(path)])[1].tobytes()

    rows = {
        "source": list("aababb"),
        "path": list("013425"),
        "patient_id": pd.Series([None] * 6, dtype="str"),
        "label_ill": [0.0, 1.0, 1.0, 0.0, np.nan, 1.0],
    }
    new = NewImages(dict.fromkeys("ab", Reader()), pd.DataFrame(rows))
    features, counts = new.extract_features(classifier, **SETTINGS)
    assert features.y_true[:, 0].tolist() == [0, 1, 1, 0]
    assert features.source.tolist() == list("aaba")
    assert counts["refused"] == {"empty": 2}
    np.testing.assert_allclose(features.statistics[:, 0], images[[0, 1, 3, 4]].mean(axis=(1, 2)), rtol=1e-5)


def test_the_number_of_images_is_limited(folder, classifier):
    new = NewImages.from_folder(str(folder), key="k")
    features, counts = new.extract_features(classifier, **{**SETTINGS, "max_images": 3})
    assert (len(features) + sum(counts["refused"].values()), counts["drawn"]) == (3, 3)
    assert (counts["images"], counts["without_patient"]) == (7, 7)
    assert np.isnan(features.y_true).all()
