from pathlib import Path

import pytest

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.sources.folders import IMAGE_SUFFIXES, find_images

KEY = "effusion.scoring.folder"


def write(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_every_image_below_the_folder_in_order_of_paths(tmp_path, monkeypatch):
    names = ["a.JPG", "b.png", "d/e/d.TIFF", "e.tif", "e/f.png", "e-1/f.png", "f.bmp", "g.WebP", "h.DCM", "i.dicom"]
    write(tmp_path, *reversed(names), "ward 1/c.jpeg", "notes.txt", "report.pdf", ".hidden.png", ".cache/h.png", "png")
    images = find_images(str(tmp_path), key=KEY)
    assert list(images) == sorted([*names, "ward 1/c.jpeg"])
    assert {Path(path).suffix.lower() for path in images} == set(IMAGE_SUFFIXES)
    monkeypatch.setenv("HOME", str(tmp_path.parent))
    assert find_images(f"~/{tmp_path.name}", key=KEY).root == tmp_path


def test_links_to_folders_are_listed_if_they_lead_out(tmp_path):
    folder = write(tmp_path / "new", "a/1.png")
    (folder / "inside").symlink_to(folder / "a")
    (folder / "outside").symlink_to(write(tmp_path / "elsewhere", "2.png"))
    (folder / "loop.png").symlink_to("loop.png")
    assert list(find_images(str(folder), key=KEY)) == ["a/1.png", "loop.png", "outside"]


@pytest.mark.parametrize(
    ("folder", "message"),
    [
        (None, "effusion.scoring.folder is null"),
        ("", "effusion.scoring.folder is null"),
        ("absent", "absent .*cannot be read: No such file or directory"),
        ("new/image.png", r"image\.png .*cannot be read: Not a directory"),
        ("without", r"There are no images below .*without .*\.png"),
    ],
)
def test_a_folder_without_images(tmp_path, monkeypatch, folder, message):
    write(tmp_path, "new/image.png", "without/notes.txt")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message) as error:
        find_images(folder, key=KEY)
    assert "--params effusion.scoring.folder=DIR" in str(error.value)
