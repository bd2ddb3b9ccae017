import cv2
import keras
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.deployment.drift.image_features import (
    STATISTICS,
    extract_features,
    image_statistics,
    sample_one_per_patient,
)
from cxr_pipeline.evaluation.decision_rule import fit_decision_rule
from cxr_pipeline.training.networks.build import POOLED
from cxr_pipeline.training.networks.views import with_views

PATIENTS = st.lists(st.one_of(st.none(), st.sampled_from("abcdefgh")), max_size=40)


def rows_of(patients, source="nih"):
    return pd.DataFrame({"source": source, "patient_id": pd.Series(patients, dtype="str")})


@given(PATIENTS, st.integers(0, 60), st.integers(0, 99))
def test_one_image_of_each_patient_is_sampled(patients, max_images, seed):
    rows = rows_of(patients)
    sample = sample_one_per_patient(rows, max_images=max_images, seed=seed)
    assert not sample["patient_id"].dropna().duplicated().any()
    assert sample.index.is_monotonic_increasing
    assert len(sample) == min(max_images, rows["patient_id"].nunique() + int(rows["patient_id"].isna().sum()))
    pd.testing.assert_frame_equal(sample, sample_one_per_patient(rows, max_images=max_images, seed=seed))


def test_the_sample_is_random_and_equal_ids_in_two_sources_are_two_patients():
    rows = rows_of(["a"] * 10 + ["b"] * 10)
    assert len({sample_one_per_patient(rows, max_images=2, seed=seed).index[0] for seed in range(50)}) > 5
    unknown = rows_of([None] * 20)
    assert len({tuple(sample_one_per_patient(unknown, max_images=3, seed=seed).index) for seed in range(20)}) > 15
    assert len(sample_one_per_patient(rows_of(["1", "1"], ["nih", "other"]), max_images=9, seed=0)) == 2


def test_features_are_those_of_the_network_with_calibrated_probabilities(network, images):
    raw = network.predict(images[:60, ..., np.newaxis], verbose=0)
    labels = (raw > np.median(raw)).astype(float)
    labels[:6] = 1 - labels[:6]
    platt = fit_decision_rule(
        labels, raw, kind="binary", classes=("a", "b"), calibration="platt", policy={"rule": "youden"}
    )
    features = extract_features(network, platt, (images[:20], images[20:60]))
    pooled = keras.Model(network.inputs, network.get_layer(POOLED).output)
    np.testing.assert_allclose(features.features, pooled.predict(images[:60, ..., np.newaxis], verbose=0), atol=1e-5)
    np.testing.assert_allclose(features.probability, platt.apply(raw.astype(float)).probability, atol=1e-6)
    assert not np.allclose(features.probability, raw, atol=1e-2)
    np.testing.assert_array_equal(features.statistics, image_statistics(images[:60]))
    assert np.isnan(features.y_true).all()


def test_features_are_those_of_the_image_and_scores_means_over_its_views(network, rule, images):
    augmentation = {"rotation": 20, "translation": 0.1, "zoom": 0.1, "brightness": 0.1, "contrast": 0.1}
    averaged = with_views(network, 3, augmentation, seed=1)
    features, plain = (extract_features(model, rule, [images[:9]]) for model in (averaged, network))
    np.testing.assert_allclose(features.features, plain.features, atol=1e-5)
    scores = averaged.predict(images[:9, ..., np.newaxis], verbose=0).astype(float)
    np.testing.assert_allclose(features.probability, rule.apply(scores).probability, rtol=1e-4)
    assert not np.allclose(features.probability, plain.probability, rtol=0.01, atol=0)


def test_no_images_give_empty_arrays_and_nan_scores_raise(network, rule, images):
    features = extract_features(network, rule, [])
    assert (len(features), features.features.shape, features.probability.shape) == (0, (0, 24), (0, 1))
    broken = keras.models.clone_model(network)
    broken.set_weights([np.full_like(weight, np.nan) for weight in broken.get_weights()])
    with pytest.raises(UserError, match="NaN"):
        extract_features(broken, rule, [images[:4]])


def statistics_of(image):
    return dict(zip(STATISTICS, image_statistics(image[np.newaxis])[0].tolist(), strict=True))


@given(arrays(np.uint8, st.tuples(st.integers(0, 3), st.integers(3, 20), st.integers(3, 20))))
@settings(max_examples=80)
def test_statistics_are_finite_and_within_their_range(images):
    statistics = image_statistics(images)
    assert (statistics.shape, statistics.dtype) == ((len(images), len(STATISTICS)), np.float32)
    assert np.isfinite(statistics).all()
    for name in ("black_border", "clipped", "centre_across", "centre_down"):
        column = statistics[:, list(STATISTICS).index(name)]
        assert ((column >= 0) & (column <= 1)).all()


def test_each_statistic_responds_to_its_property(images):
    image = images[0]
    noisy = np.clip(image + np.random.default_rng(0).normal(0, 6, image.shape), 0, 255).astype(np.uint8)
    framed = image.copy()
    framed[:12] = 0
    plain = statistics_of(image)
    assert statistics_of(noisy)["noise"] > plain["noise"] + 3
    assert statistics_of(cv2.GaussianBlur(image, (0, 0), 2))["sharpness"] < plain["sharpness"] - 0.2
    assert statistics_of(framed)["black_border"] == pytest.approx(plain["black_border"] + 0.125, abs=0.07)
    assert statistics_of(np.roll(image, 6, axis=1))["centre_across"] != pytest.approx(plain["centre_across"], abs=0.005)
    assert statistics_of(image.T.copy())["centre_down"] == pytest.approx(plain["centre_across"], abs=1e-6)
    assert statistics_of(image // 2)["contrast"] == pytest.approx(plain["contrast"] / 2, rel=0.02)
    assert statistics_of(np.where(image > 128, 255, image).astype(np.uint8))["clipped"] > plain["clipped"]
