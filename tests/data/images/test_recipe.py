import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
from dicom_files import dicom
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cxr_pipeline.common.errors import ImageRefused
from cxr_pipeline.data.images import recipe as recipes
from cxr_pipeline.data.images.recipe import Recipe, prepare_content, resize

RECIPE = Recipe(size=32, mode="fit", max_megapixels=10)
STEPS = ({"operation": "top_hat", "shape": "cross", "size": 5},)

sides = st.integers(16, 90)
images = hnp.arrays(np.uint8, st.tuples(sides, sides))
modes = st.sampled_from(["fit", "stretch"])


def test_the_digest_depends_on_what_changes_pixels_and_nothing_else(monkeypatch):
    same = [Recipe(32, "fit", 5), Recipe(32, "fit", 10, steps=()), Recipe(**RECIPE.to_dict())]
    assert {recipe.digest for recipe in same} == {RECIPE.digest}
    others = [replace(RECIPE, size=33), replace(RECIPE, mode="stretch"), replace(RECIPE, steps=STEPS)]
    monkeypatch.setattr(recipes, "VERSION", recipes.VERSION + 1)
    assert len({recipe.digest for recipe in (*same[:1], *others)} | {Recipe(32, "fit", 10).digest}) == 5
    # The order of steps matters, that of their keys does not.
    blur, hat = {"operation": "denoise", "size": 3}, {"operation": "top_hat", "size": 3}
    assert replace(RECIPE, steps=(blur, hat)).digest != replace(RECIPE, steps=(hat, blur)).digest
    assert replace(RECIPE, steps=(blur,)).digest == replace(RECIPE, steps=(dict(reversed(blur.items())),)).digest


def test_an_image_is_decoded_resized_and_enhanced(image, encode):
    recipe = replace(RECIPE, mode="stretch", steps=STEPS)
    resized = cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA)
    expected = cv2.morphologyEx(resized, cv2.MORPH_TOPHAT, cv2.getStructuringElement(cv2.MORPH_CROSS, (5, 5)))
    assert expected.any()
    assert np.array_equal(recipe.prepare(encode(image, "PNG")), expected)


@pytest.mark.parametrize(("error", "reason"), [(ValueError, "unreadable"), (MemoryError, "too_large")])
def test_an_unexpected_error_of_a_decoder_is_a_refusal(error, reason, image, encode, caplog, monkeypatch):
    def fail(*_, **__):
        raise error("a bug of the decoder")

    monkeypatch.setattr("cxr_pipeline.data.images.recipe.decode", fail)
    with pytest.raises(ImageRefused) as raised:
        prepare_content(encode(image, "PNG"), RECIPE)
    assert raised.value.reason == reason
    assert ("could not be decoded: ValueError" in caplog.text) == (reason == "unreadable")
    # The message may be a value of the header.
    assert "a bug of the decoder" not in caplog.text


def test_dicom_images_are_accepted_as_by_the_sources_of_the_training_images(image):
    content = dicom(image, Modality="RF", BodyPartExamined="TORAX")
    with pytest.raises(ImageRefused, match="not_chest: modality RF"):
        prepare_content(content, RECIPE)
    with pytest.raises(ImageRefused, match="not_chest: body part TORAX, expected CHEST"):
        prepare_content(content, replace(RECIPE, modalities=("RF",)))
    accepting = replace(RECIPE, modalities=("RF",), body_parts=("TORAX",))
    stored = Recipe(**json.loads(json.dumps(accepting.to_dict())))
    assert stored == accepting
    assert stored.digest == RECIPE.digest
    assert np.array_equal(prepare_content(content, stored), RECIPE.prepare(content))


@settings(max_examples=50, deadline=None)
@given(images, st.integers(16, 64), modes)
def test_the_result_has_the_size_and_the_range_of_the_image(image, size, mode):
    resized = resize(image, size=size, mode=mode)
    assert resized.shape == (size, size)
    assert resized.dtype == np.uint8
    assert resized.max() <= image.max()
    assert resized.min() >= (image.min() if mode == "stretch" else 0)
    assert resize(resized, size=size, mode=mode) is resized


@settings(max_examples=50, deadline=None)
@given(sides, sides, st.integers(16, 64), st.integers(1, 255))
def test_a_constant_image_stays_constant_and_keeps_its_aspect_ratio(height, width, size, level):
    image = np.full((height, width), level, np.uint8)
    assert (resize(image, size=size, mode="stretch") == level).all()
    fitted = resize(image, size=size, mode="fit")
    rows, columns = np.flatnonzero(fitted.any(axis=1)), np.flatnonzero(fitted.any(axis=0))
    shown = fitted[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    assert (shown == level).all()
    assert max(shown.shape) == size
    assert abs(shown.shape[0] * width - shown.shape[1] * height) <= max(height, width)
    margins = rows[0] - (size - 1 - rows[-1]), columns[0] - (size - 1 - columns[-1])
    assert all(-1 <= margin <= 0 for margin in margins)


@settings(max_examples=30, deadline=None)
@given(hnp.arrays(np.uint8, (64, 96)), st.sampled_from([2, 4, 8]))
def test_whole_factors_give_means_of_blocks(image, factor):
    image = np.vstack([image, image[:32]])
    size = 96 // factor
    means = image.reshape(size, factor, size, factor).mean(axis=(1, 3))
    assert np.abs(resize(image, size=size, mode="stretch") - means).max() <= 1


def test_resizing_does_not_shift():
    ramp = np.repeat(np.arange(0, 240, dtype=np.uint8)[np.newaxis], 240, axis=0)
    for size in (37, 100, 224, 500):
        resized = resize(ramp, size=size, mode="fit").astype(float)
        expected = (np.arange(size) + 0.5) * 240 / size - 0.5
        assert np.abs(resized[size // 2, 3:-3] - expected[3:-3]).max() < 1.1


def test_a_side_that_grows_is_interpolated_while_the_other_shrinks():
    step = np.repeat(np.array([[0] * 8 + [200] * 8], dtype=np.uint8), 128, axis=0)
    image = step + np.tile(np.array([[0], [40]], dtype=np.uint8), (64, 16))
    stretched = resize(image, size=64, mode="stretch")
    assert np.array_equal(stretched[0, [0, 30, 31, 32, 33, 63]], [20, 45, 95, 145, 195, 220])
    assert (stretched == stretched[0]).all()
