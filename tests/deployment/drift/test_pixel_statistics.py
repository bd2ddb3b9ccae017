import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cxr_pipeline.deployment.drift.pixel_statistics import STATISTICS, image_statistics


def of(image: np.ndarray) -> dict[str, float]:
    return dict(zip(STATISTICS, image_statistics(image[np.newaxis])[0].tolist(), strict=True))


@given(arrays(np.uint8, st.tuples(st.integers(0, 3), st.integers(3, 20), st.integers(3, 20))))
@settings(max_examples=80)
def test_every_image_has_finite_statistics_in_their_range(images: np.ndarray) -> None:
    measured = image_statistics(images)
    assert measured.shape == (len(images), len(STATISTICS))
    assert measured.dtype == np.float32
    assert np.isfinite(measured).all()
    for name in ("black_border", "clipped", "centre_across", "centre_down"):
        column = measured[:, list(STATISTICS).index(name)]
        assert ((column >= 0) & (column <= 1)).all()


@pytest.mark.parametrize("grey", [0, 7, 128, 255])
def test_a_image_of_one_grey(grey: int) -> None:
    found = of(np.full((20, 20), grey, np.uint8))
    assert found["brightness"] == found["shadows"] == found["midtones"] == found["highlights"] == grey
    assert found["contrast"] == found["sharpness"] == found["noise"] == 0
    assert found["centre_across"] == found["centre_down"] == pytest.approx(0.5)
    assert found["black_border"] == (1 if grey < 9 else 0)
    assert found["clipped"] == (grey == 255)


def test_each_statistic_sees_what_it_is_named_after(images) -> None:
    image = images[0]
    noisy = np.clip(image + np.random.default_rng(0).normal(0, 6, image.shape), 0, 255).astype(np.uint8)
    framed = image.copy()
    framed[:12] = 0
    moved = np.roll(image, 6, axis=1)
    plain = of(image)
    assert of(noisy)["noise"] > plain["noise"] + 3
    assert of(cv2.GaussianBlur(image, (0, 0), 2))["sharpness"] < plain["sharpness"] - 0.2
    assert of(framed)["black_border"] == pytest.approx(plain["black_border"] + 0.125, abs=0.07)
    assert of(moved)["centre_across"] != pytest.approx(plain["centre_across"], abs=0.005)
    assert of(image.T.copy())["centre_down"] == pytest.approx(plain["centre_across"], abs=1e-6)
    assert of(image // 2)["contrast"] == pytest.approx(plain["contrast"] / 2, rel=0.02)
    assert of(np.where(image > 128, 255, image).astype(np.uint8))["clipped"] > plain["clipped"]


def test_the_noise_is_told_in_grey_levels() -> None:
    rng = np.random.default_rng(1)
    ramp = np.tile(np.linspace(60, 180, 200), (200, 1))
    for level in (2, 5, 10):
        image = np.clip(np.round(ramp + rng.normal(0, level, ramp.shape)), 0, 255).astype(np.uint8)
        assert of(image)["noise"] == pytest.approx(level, rel=0.05)


def test_percentiles_are_the_fifth_and_the_ninety_fifth() -> None:
    image = np.arange(100, dtype=np.uint8).reshape(10, 10)
    found = of(image)
    assert (found["shadows"], found["midtones"], found["highlights"]) == pytest.approx(
        tuple(np.percentile(image, (5, 50, 95)))
    )
