from collections.abc import Callable
from pathlib import Path

import pytest

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.deployment.scoring import IMAGE_SUFFIXES, find_images

KEY = "effusion.scoring.folder"

Draw = Callable[..., Path]


def test_every_image_below_the_folder_is_found_in_the_same_order(folder: Path, draw: Draw) -> None:
    names = [
        "b.png",
        "a.JPG",
        "ward 1/c.jpeg",
        "ward 1/deep/er/d.TIFF",
        "e.tif",
        "e/f.png",
        "e-1/f.png",
        "f.bmp",
        "g.WebP",
        "h.DCM",
        "i.dicom",
    ]
    for name in names:
        draw(name)
    for name in ["notes.txt", "report.pdf", ".hidden.png", ".cache/h.png", "png"]:
        draw(name)
    images = find_images(str(folder), key=KEY)
    assert [image.path for image in images] == sorted(names)
    assert {Path(image.path).suffix.lower() for image in images} == set(IMAGE_SUFFIXES)
    assert images.count() == len(names)


def test_a_draw_stays_the_same_as_images_come(folder: Path, draw: Draw) -> None:
    for number in range(40):
        draw(f"{number}.png")
    images = find_images(str(folder), key=KEY)
    first = {image.path for image in images.sample(10, seed=1)}
    assert first == {image.path for image in images.sample(10, seed=1)}
    assert first != {image.path for image in images.sample(10, seed=2)}
    assert len(images.sample(100, seed=1)) == 40
    for number in range(40, 80):
        draw(f"{number}.png")
    later = {image.path for image in images.sample(10, seed=1)}
    assert 0 < len(first & later) < 10
    assert all(int(Path(name).stem) >= 40 for name in later - first)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (None, "effusion.scoring.folder is null"),
        ("", "effusion.scoring.folder is null"),
        ("absent", "found nothing at .*absent"),
        ("new/image.png", r"found a file at .*image\.png"),
        ("without", r"No image is below .*without .*\.png"),
    ],
)
def test_a_folder_without_images_is_a_mistake(
    tmp_path: Path, draw: Draw, monkeypatch: pytest.MonkeyPatch, given: str | None, found: str
) -> None:
    draw("image.png")
    draw("notes.txt", below=tmp_path / "without")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=found) as raised:
        find_images(given, key=KEY)
    assert "--params effusion.scoring.folder=DIR" in str(raised.value)


def test_images_of_the_home_folder_are_found(folder: Path, draw: Draw, monkeypatch: pytest.MonkeyPatch) -> None:
    draw("image.png")
    monkeypatch.setenv("HOME", str(folder.parent))
    images = find_images("~/new", key=KEY)
    assert images.root == folder
    assert [image.path for image in images] == ["image.png"]
