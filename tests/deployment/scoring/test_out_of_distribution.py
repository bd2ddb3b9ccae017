import cv2
import numpy as np
import pandas as pd
import pytest
import stub_models
from phantom_patients import SIZE, features_of, make_classifier, simulate, write

from cxr_pipeline.common.errors import ImageRefused
from cxr_pipeline.data.sources.folders import find_images
from cxr_pipeline.deployment.drift.reference_profile import ReferenceProfile
from cxr_pipeline.deployment.scoring import score_folder, summarise
from cxr_pipeline.deployment.scoring.out_of_distribution import OutlierDetector, Screening

OOD = "out_of_distribution"
DEFAULTS = {OOD: "flag", "false_alarms": 0.02, "min_images": 30, "max_images": 6, "seed": 3}


@pytest.fixture(scope="module")
def owner_and_profile():
    """A classifier, and the reference profile of its phantoms."""
    owner = make_classifier()
    own = features_of(owner, range(1, 101)), features_of(owner, range(101, 161))
    return owner, ReferenceProfile.fit(*own, outputs=("ill",), seed=0)


@pytest.fixture
def phantom_folder(folder):
    """Twenty phantoms, an image of noise and a text file."""
    write(folder, range(201, 221))
    noise = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE), dtype=np.uint8)
    cv2.imwrite(str(folder / "noise.png"), noise)
    (folder / "broken.png").write_bytes(b"no image")
    return folder


class Counting(Screening):
    """Counts the images that go through its network."""

    n_seen = 0

    def score_batch(self, prepared):
        self.n_seen += sum(not isinstance(image, ImageRefused) for image in prepared)
        return super().score_batch(prepared)


@pytest.fixture
def score(tmp_path, owner_and_profile):
    def score_images(folder, heatmaps=None, **parameters):
        screening = Counting(*owner_and_profile, **{**DEFAULTS, **parameters})
        where = {"scored_by": "1", "parts": tmp_path / "parts", "batch_size": 4, "heatmaps": heatmaps}
        return score_folder(
            owner_and_profile[0], find_images(str(folder), key="k"), **where, screening=screening
        ), screening

    return score_images


def table(predictions):
    return pd.concat(predictions, ignore_index=True).set_index("image")


def test_a_flagged_image_keeps_its_probability(score, phantom_folder, owner_and_profile, caplog):
    predictions, screening = score(phantom_folder)
    rows = table(predictions)
    assert rows.columns.tolist() == ["probability", "decision", "status", "reason"]
    assert rows.loc["noise.png", ["status", "reason"]].tolist() == ["scored", OOD]
    assert rows.loc["broken.png", ["status", "reason"]].tolist() == ["refused", "unreadable"]
    assert (rows["reason"] == OOD).sum() <= 2
    names = rows.index[rows["status"] == "scored"]
    expected = stub_models.score(owner_and_profile[0], [(phantom_folder / name).read_bytes() for name in names])
    np.testing.assert_allclose(rows.loc[names, "probability"], expected["probability"], atol=1e-6)
    assert rows.loc[names, "decision"].tolist() == expected["decision"].tolist()
    record = summarise(predictions, owner_and_profile[0])
    assert "Images refused: 1 of 22 (1 unreadable)." in caplog.text
    assert (record["n_images"], record["n_scored"], record["refused"]) == (22, 21, {"unreadable": 1})
    assert record["flagged"] == {OOD: (rows["reason"] == OOD).sum()}
    assert screening.n_seen == 21


def test_a_refused_image_has_no_heat_map(score, phantom_folder, tmp_path):
    predictions, _ = score(phantom_folder, out_of_distribution="refuse", heatmaps=tmp_path / "maps")
    rows = table(predictions)
    assert rows.loc["noise.png", ["status", "reason"]].tolist() == ["refused", OOD]
    assert rows.loc["noise.png", ["probability", "decision"]].isna().all()
    drawn = {path.relative_to(tmp_path / "maps").as_posix() for path in (tmp_path / "maps").rglob("*.png.png")}
    assert drawn == {f"{image}.png" for image in rows.index[rows["status"] == "scored"]}


def test_images_are_screened_again_only_with_other_parameters(score, phantom_folder):
    first = table(score(phantom_folder)[0])
    predictions, screening = score(phantom_folder)
    assert screening.n_seen == 0
    pd.testing.assert_frame_equal(table(predictions), first)
    assert len(predictions.features) == len(screening.sample(find_images(str(phantom_folder), key="k"))) == 6
    for changed in ({OOD: "ignore"}, {"false_alarms": 0.2}, {"min_images": 40}):
        predictions, screening = score(phantom_folder, **changed)
        assert (screening.n_seen, predictions.n_kept) == (21, 0)
        if OOD in changed:
            assert table(predictions)["reason"].dropna().tolist() == ["unreadable"]


def test_the_sample_follows_images_that_come_and_go(score, phantom_folder):
    """New images are scored once; an image that replaces a removed one in the sample is scored once more."""
    predictions, screening = score(phantom_folder)
    write(phantom_folder, range(301, 311))
    predictions, screening = score(phantom_folder)
    assert (screening.n_seen, len(predictions.features)) == (10, 6)
    for image in screening.sample(find_images(str(phantom_folder), key="k"))[:3]:
        (phantom_folder / image).unlink()
    predictions, screening = score(phantom_folder)
    assert len(predictions.features) == 6
    assert screening.n_seen <= 3
    before = table(predictions)
    predictions, screening = score(phantom_folder)
    assert screening.n_seen == 0
    pd.testing.assert_frame_equal(table(predictions), before)


TRAIN, VALIDATION, NEW = slice(0, 200), slice(200, 330), slice(330, 480)


def fit(training, validation):
    return ReferenceProfile.fit(training, validation, outputs=("ill",), seed=0)


@pytest.fixture(scope="module")
def profile(phantoms):
    return fit(phantoms.take(TRAIN), phantoms.take(VALIDATION))


def share(profile, images, false_alarms):
    detector = OutlierDetector(profile, false_alarms=false_alarms, min_images=30)
    return float(detector.is_outlier(images.statistics, images.features).mean())


@pytest.mark.parametrize("false_alarms", [0.05, 0.2])
def test_the_rate_of_false_alarms_is_that_of_the_parameter(phantoms, false_alarms):
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(30):
        order = rng.permutation(len(phantoms))
        training, validation, new = (phantoms.take(order[part]) for part in (TRAIN, VALIDATION, NEW))
        shares.append(share(fit(training, validation), new, false_alarms))
    assert 0.2 * false_alarms < np.mean(shares) <= false_alarms + 0.02


def test_noise_negatives_and_plain_grey_are_outliers(profile, images, extract):
    noise = np.random.default_rng(0).integers(0, 256, images[NEW].shape).astype(np.uint8)
    assert share(profile, extract(noise), 0.01) == 1
    assert share(profile, extract(255 - images[NEW]), 0.01) > 0.9
    assert share(profile, extract(np.full_like(images[NEW], 90)), 0.01) == 1


def test_pixels_and_features_each_detect_outliers_alone(profile, phantoms):
    own, far = phantoms.take(NEW), simulate(150, 1)
    detector = OutlierDetector(profile, false_alarms=0.01, min_images=30)
    assert detector.compared == ("pixels", "features")
    assert detector.is_outlier(own.statistics, own.features).mean() < 0.05
    assert detector.is_outlier(far.statistics, own.features).all()
    assert detector.is_outlier(own.statistics, own.features + 100).all()
    # Features that overflow are those of an outlier.
    own.features[1, 0] = np.inf
    assert detector.is_outlier(own.statistics, own.features)[1]


def test_a_small_profile_makes_the_comparisons_that_it_can(phantoms):
    few = fit(phantoms.take(slice(0, 40)), phantoms.take(slice(40, 60)))
    new = phantoms.take(NEW)
    assert OutlierDetector(few, false_alarms=0.05, min_images=30).compared == ("pixels",)
    nothing = OutlierDetector(few, false_alarms=0.05, min_images=50)
    assert nothing.compared == ()
    assert not nothing.is_outlier(new.statistics, new.features + 100).any()
    # A rate below one in n images still has a threshold.
    few = fit(phantoms.take(TRAIN), phantoms.take(slice(200, 235)))
    assert share(few, new, 0.0001) < 0.1
    detector = OutlierDetector(few, false_alarms=0.0001, min_images=30)
    assert detector.is_outlier(new.statistics * 50, new.features * 50).all()
