import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
from dicom_files import dicom

from cxr_pipeline.common.errors import ImageRefused
from cxr_pipeline.data.images import recipe as recipes
from cxr_pipeline.data.images.recipe import Recipe, prepare_content

RECIPE = Recipe(size=32, mode="fit", max_megapixels=10)
STEPS = ({"operation": "top_hat", "shape": "cross", "size": 5},)


def test_the_digest_depends_on_what_changes_pixels_and_nothing_else(monkeypatch):
    same = [Recipe(32, "fit", 5), Recipe(32, "fit", 10, steps=()), Recipe.from_dict(RECIPE.to_dict())]
    assert {recipe.digest for recipe in same} == {RECIPE.digest}
    others = [replace(RECIPE, size=33), replace(RECIPE, mode="stretch"), replace(RECIPE, steps=STEPS)]
    monkeypatch.setattr(recipes, "VERSION", recipes.VERSION + 1)
    assert len({recipe.digest for recipe in (*same[:1], *others)} | {Recipe(32, "fit", 10).digest}) == 5


def test_the_digest_depends_on_the_order_of_steps_but_not_of_their_keys():
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
    stored = Recipe.from_dict(json.loads(json.dumps(accepting.to_dict())))
    assert stored == accepting
    assert stored.digest == RECIPE.digest
    assert np.array_equal(prepare_content(content, stored), RECIPE.prepare(content))
