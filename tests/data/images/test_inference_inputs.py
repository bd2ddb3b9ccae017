import pytest

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
    assert ("a bug of the decoder" in caplog.text) == (reason == "unreadable")
