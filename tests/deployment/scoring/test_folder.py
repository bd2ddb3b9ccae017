import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxr_pipeline.deployment.scoring import folder as module


@pytest.mark.parametrize(("batch_size", "few_images", "window"), [(1, 100, 100), (3, 100, 3), (7, 4, 10)])
def test_batches_windows_and_processes_change_nothing(
    classifier, folder, draw, score, monkeypatch, batch_size, few_images, window
):
    monkeypatch.setattr(module, "_FEW_IMAGES", few_images)
    monkeypatch.setattr(module, "_WINDOW", window)
    monkeypatch.setattr(module, "n_cores", lambda: 2)
    greys = np.linspace(20, 230, 19).astype(int)
    for grey in greys:
        draw(f"{grey:03}.png", grey)
    draw("bad.png").write_bytes(b"no image")
    predictions = score(classifier, folder, batch_size=batch_size)
    np.testing.assert_allclose(predictions.probability, [*greys / 255, np.nan], atol=1e-6)
    assert predictions.reason.dropna().tolist() == ["unreadable"]


def test_an_image_that_vanishes_while_scoring_is_refused(classifier, folder, draw, score, monkeypatch):
    for number in range(4):
        draw(f"{number}.png")
    prepare = module._prepare

    def vanishing(*arguments, **options):
        (folder / "2.png").unlink()
        return prepare(*arguments, **options)

    monkeypatch.setattr(module, "_prepare", vanishing)
    assert score(classifier, folder).reason.fillna("").tolist() == ["", "", "unreadable", ""]


def test_a_link_that_leaves_the_folder_is_refused(classifier, tmp_path, folder, draw, score):
    secret = draw("secret.png", below=tmp_path / "elsewhere")
    inside = draw("inside.png")
    (folder / "image.png").symlink_to(secret)
    (folder / "up.png").symlink_to("../elsewhere/secret.png")
    (folder / "ward").symlink_to(secret.parent)
    (folder / "again.png").symlink_to(inside.name)
    (folder / "loop").symlink_to(".")
    predictions = score(classifier, folder).set_index("image")
    assert predictions.index.tolist() == ["again.png", "image.png", "inside.png", "up.png", "ward"]
    assert predictions.status.tolist() == ["scored", "refused", "scored", "refused", "refused"]
    assert predictions.reason.dropna().unique().tolist() == ["outside_source"]


def test_pipes_dangling_links_and_unreadable_folders_are_refused(classifier, folder, draw, score, monkeypatch):
    draw("image.png")
    os.mkfifo(folder / "pipe.png")
    (folder / "nowhere.png").symlink_to("absent.png")
    (folder / "self.png").symlink_to("self.png")
    draw("locked/image.png")
    scan = os.scandir

    def scan_all_but_one(path):
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", scan_all_but_one)
    reasons = score(classifier, folder).set_index("image").reason.fillna("").to_dict()
    refused = dict.fromkeys(["locked", "nowhere.png", "pipe.png", "self.png"], "unreadable")
    assert reasons == {"image.png": "", **refused}


def test_hostile_names(classifier, tmp_path, folder, draw, score):
    names = ["with space", "-rf", "two\nlines", "a\rreturn", 'quote",comma', "Röntgen 肺", "$(touch x);", "back\\slash"]
    for name in names:
        draw(f"{name}.png", 204)
    draw(b"\xff\xfe.png", 204)
    predictions = score(classifier, folder)
    assert sorted(predictions.image) == sorted([*(f"{name}.png" for name in names), r"\xff\xfe.png"])
    assert set(predictions.status) == {"scored"}
    predictions.to_parquet(tmp_path / "predictions.parquet")
    assert pd.read_parquet(tmp_path / "predictions.parquet").image.tolist() == predictions.image.tolist()
