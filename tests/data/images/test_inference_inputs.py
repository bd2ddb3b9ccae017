import json

import numpy as np
import pytest
from dicom_files import dicom

from cxr_pipeline.common.errors import ImageRefused
from cxr_pipeline.data.images.inference_inputs import prepare_content
from cxr_pipeline.data.images.recipe import Recipe


@pytest.mark.parametrize(("error", "reason"), [(ValueError, "unreadable"), (MemoryError, "too_large")])
def test_an_unexpected_error_of_a_decoder_is_a_refusal(error, reason, image, encode, caplog, monkeypatch):
    def fail(*_, **__):
        raise error("a bug of the decoder")

    monkeypatch.setattr("cxr_pipeline.data.images.decoding.decode", fail)
    with pytest.raises(ImageRefused) as raised:
        prepare_content(encode(image, "PNG"), Recipe(size=16, mode="stretch", max_megapixels=1.0))
    assert raised.value.reason == reason
    assert ("could not be decoded: ValueError" in caplog.text) == (reason == "unreadable")
    # The message may be a value of the header.
    assert "a bug of the decoder" not in caplog.text


def test_dicom_images_are_accepted_as_by_the_sources_of_the_training_images(image):
    recipe = Recipe(size=16, mode="stretch", max_megapixels=1.0)
    content = dicom(image, Modality="RF", BodyPartExamined="TORAX")
    with pytest.raises(ImageRefused, match="not_chest: modality RF"):
        prepare_content(content, recipe)
    with pytest.raises(ImageRefused, match="not_chest: body part TORAX, expected CHEST"):
        prepare_content(content, Recipe(**{**recipe.to_dict(), "modalities": ("RF",)}))
    accepting = Recipe(**{**recipe.to_dict(), "modalities": ("RF",), "body_parts": ("TORAX",)})
    stored = Recipe.from_dict(json.loads(json.dumps(accepting.to_dict())))
    assert stored == accepting
    assert stored.digest == recipe.digest
    assert np.array_equal(prepare_content(content, stored), recipe.prepare(content))
