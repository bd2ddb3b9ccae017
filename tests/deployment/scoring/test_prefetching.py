import itertools
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from cxr_pipeline.common.errors import ImageRefused, UserError
from cxr_pipeline.data.image_folder import ImageFile, ImageFolder
from cxr_pipeline.data.images.inference_inputs import prepare_content, prepare_files
from cxr_pipeline.data.images.recipe import Recipe
from cxr_pipeline.deployment.scoring import prefetching
from cxr_pipeline.deployment.scoring.prefetching import prepare_ahead

RECIPE = Recipe(size=16, mode="stretch", max_megapixels=1.0)

Draw = Callable[..., Path]


@pytest.fixture
def several_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads for four images, then two processes."""
    monkeypatch.setattr(prefetching, "FEW_IMAGES", 4)
    monkeypatch.setattr(prefetching, "n_cores", lambda: 2)


def means(prepared: Any) -> list[float | str]:
    return [image.reason if isinstance(image, ImageRefused) else float(np.mean(image)) for _, image in prepared]


@pytest.mark.parametrize("pending", [0, 1, 5, 100])
def test_threads_and_processes_keep_the_order(folder: Path, draw: Draw, several_cores: None, pending: int) -> None:
    greys = [40 + 4 * number for number in range(43)]
    for number, grey in enumerate(greys):
        draw(f"{number:03}.png", grey)
    draw("021.png").write_bytes(b"no image")
    draw("002.png").write_bytes(b"")
    found = list(prepare_ahead(folder, ImageFolder(folder), RECIPE, pending=pending))
    assert [image.path for image, _ in found] == [f"{number:03}.png" for number in range(43)]
    expected: list[float | str] = [float(grey) for grey in greys]
    expected[21], expected[2] = "unreadable", "empty"
    assert means(found) == expected


def test_a_image_that_vanishes_after_it_was_listed_is_refused(folder: Path, draw: Draw) -> None:
    for number in range(30):
        draw(f"{number:02}.png")
    images = ImageFolder(folder)

    def vanishing() -> Any:
        for image in images:
            (folder / image.path).unlink() if image.path == "20.png" else None
            yield image

    results = means(prepare_ahead(folder, vanishing(), RECIPE, pending=4))
    assert results[20] == "unreadable"
    assert [result for place, result in enumerate(results) if place != 20] == [51.0] * 29


def test_not_more_images_are_listed_than_are_wanted(folder: Path, draw: Draw, several_cores: None) -> None:
    draw("image.png")
    listed = itertools.count()

    def endless() -> Any:
        for _ in listed:
            yield ImageFile("image.png", link=False)

    prepared = prepare_ahead(folder, endless(), RECIPE, pending=4)
    assert means(itertools.islice(prepared, 20)) == [51.0] * 20
    prepared.close()
    assert next(listed) <= 20 + 8 * 6
    assert not [child for child in psutil.Process().children() if "spawn_main" in " ".join(child.cmdline())]


def test_a_killed_process_ends_the_run_plainly(folder: Path, draw: Draw, several_cores: None) -> None:
    for number in range(200):
        draw(f"{number:03}.png")
    prepared = prepare_ahead(folder, ImageFolder(folder), RECIPE, pending=4)
    with pytest.raises(UserError, match=r"was killed.*goes on from there"):
        for place, _ in enumerate(prepared):
            if place == 20:
                for child in psutil.Process().children():
                    if "spawn_main" in " ".join(child.cmdline()):
                        os.kill(child.pid, signal.SIGKILL)


@pytest.mark.parametrize(("error", "reason"), [(ValueError, "unreadable"), (MemoryError, "too_large")])
def test_what_a_decoder_raises_is_a_refusal(
    error: type[Exception], reason: str, folder: Path, draw: Draw, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(Recipe):
        def decode(self, content: bytes) -> np.ndarray:
            raise error("a bug of the decoder")

    with pytest.raises(ImageRefused) as raised:
        prepare_content(draw("image.png").read_bytes(), Failing(size=16, mode="fit", max_megapixels=1.0))
    assert raised.value.reason == reason
    assert ("a bug of the decoder" in caplog.text) == (reason == "unreadable")


def test_a_link_is_followed_to_places_inside_alone(folder: Path, draw: Draw, tmp_path: Path) -> None:
    draw("inside.png")
    (folder / "link.png").symlink_to("inside.png")
    (folder / "out.png").symlink_to(draw("secret.png", below=tmp_path / "elsewhere"))
    inside, outside = prepare_files(folder, RECIPE, ["link.png", "out.png"])
    assert inside.mean() == 51
    assert outside == ("outside_source", "a link that leads out of the folder")
