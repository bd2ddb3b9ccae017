from pathlib import Path

import cv2
import numpy as np
import pytest

from cxr_pipeline.common.errors import ImageRefused
from cxr_pipeline.data.images.inference_inputs import prepare_content, prepare_files
from cxr_pipeline.data.images.recipe import Recipe

RECIPE = Recipe(size=16, mode="stretch", max_megapixels=1.0)
GRADIENT = np.tile(np.arange(32, 96, dtype=np.uint8), (64, 1))


def write(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", GRADIENT)[1].tobytes())
    return path


@pytest.mark.parametrize(("error", "reason"), [(ValueError, "unreadable"), (MemoryError, "too_large")])
def test_an_unexpected_error_of_a_decoder_is_a_refusal(
    error: type[Exception],
    reason: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error("a bug of the decoder")

    monkeypatch.setattr("cxr_pipeline.data.images.decoding.decode", fail)
    with pytest.raises(ImageRefused) as raised:
        prepare_content(write(tmp_path / "image.png").read_bytes(), RECIPE)
    assert raised.value.reason == reason
    assert ("a bug of the decoder" in caplog.text) == (reason == "unreadable")


def test_only_links_within_the_folder_are_followed(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    write(folder / "inside.png")
    (folder / "link.png").symlink_to("inside.png")
    (folder / "out.png").symlink_to(write(tmp_path / "elsewhere" / "secret.png"))
    inside, outside = prepare_files(folder, RECIPE, ["link.png", "out.png"])
    np.testing.assert_array_equal(inside, RECIPE.prepare((folder / "inside.png").read_bytes()))
    assert outside == ("outside_source", "a link that leads out of the folder")
