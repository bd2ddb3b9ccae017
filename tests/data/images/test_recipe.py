from dataclasses import replace

import cv2
import numpy as np

from cxr_pipeline.data.images import recipe as recipes
from cxr_pipeline.data.images.recipe import Recipe

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
