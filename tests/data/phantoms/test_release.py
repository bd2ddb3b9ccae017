import os
import signal
import subprocess
import sys
import time
from itertools import chain, count, product
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.phantoms import FINDINGS, draw_patient, release, write_release
from cxr_pipeline.data.sources import nih

PREVALENCE = {finding: 0.4 if finding == "Effusion" else 0.2 for finding in FINDINGS}


def write(folder, n_patients=4, size=32, seed=0, prevalence=PREVALENCE):
    write_release(folder, n_patients=n_patients, size=size, prevalence=prevalence, seed=seed)
    return folder


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def labels_of(folder):
    names = ["image", "labels", "follow_up", "patient", "age", "sex", "view", "width", "height", "x", "y"]
    return pd.read_csv(folder / "Data_Entry_2017_phantoms.csv", skiprows=1, names=names)


@pytest.fixture(scope="module")
def records():
    """The records of 1,500 patients, without pixels."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(release, "draw_radiograph", lambda rng, **_: (np.zeros((32, 32), np.uint8), []))
        patients = [draw_patient(number, size=32, prevalence=PREVALENCE, seed=0) for number in range(1, 1501)]
        images = list(chain.from_iterable(patients))
    table = pd.DataFrame([vars(image) for image in images])
    return table.assign(**{finding: [finding in labels for labels in table["labels"]] for finding in FINDINGS})


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    return write(tmp_path_factory.mktemp("large") / "phantoms", n_patients=90)


def test_the_same_seed_gives_the_same_patients_however_many(tmp_path):
    (tmp_path / "empty").mkdir()
    few, many = contents(write(tmp_path / "empty", n_patients=3)), contents(write(tmp_path / "many", n_patients=6))
    assert len(many) > len(few)
    for name, content in few.items():
        assert many[name].startswith(content) if name.endswith(".csv") else many[name] == content
    assert contents(write(tmp_path / "other", n_patients=3, seed=1)) != few


def test_the_files_have_the_format_of_nih(large):
    header, *rows = (large / "Data_Entry_2017_phantoms.csv").read_text().splitlines()
    assert header.startswith("Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Pos")
    boxes_header, *_ = (large / "BBox_List_2017.csv").read_text().splitlines()
    assert boxes_header == "Image Index,Finding Label,Bbox [x,y,w,h],,,"
    first = cv2.imread(str(large / "images" / "00000001_000.png"), cv2.IMREAD_UNCHANGED)
    assert (first.shape, first.dtype) == ((32, 32), np.uint8)
    listing = nih.read(large)
    assert (len(listing.images), len(listing.refused), listing.n_missing) == (len(rows), 0, 0)
    assert len(list((large / "images").iterdir())) == len(rows)
    assert set(FINDINGS) < listing.vocabulary


def test_neither_the_patient_nor_mean_grey_nor_that_of_a_quadrant_predicts_the_finding(records, large):
    for score in (records["age"], records["sex"] == "F", records["view"] == "AP"):
        assert 0.47 < roc_auc_score(records["Effusion"], score) < 0.53
    table = labels_of(large)
    images = np.stack([cv2.imread(str(large / "images" / image), cv2.IMREAD_UNCHANGED) for image in table["image"]])
    effusion = table["labels"].str.contains("Effusion")
    for rows, columns in product([slice(None), slice(16), slice(16, None)], repeat=2):
        assert 0.33 < roc_auc_score(effusion, images[:, rows, columns].mean(axis=(1, 2))) < 0.67


def test_boxes_are_in_the_frame_of_1024_px_and_cover_every_finding(large):
    names = ["image", "finding", "x", "y", "w", "h"]
    boxes = pd.read_csv(large / "BBox_List_2017.csv", skiprows=1, names=names, usecols=range(6))
    assert (boxes[["x", "y"]] >= 0).all(axis=None)
    assert (boxes[["w", "h"]] > 0).all(axis=None)
    right, bottom = boxes["x"] + boxes["w"], boxes["y"] + boxes["h"]
    assert 512 < max(right.max(), bottom.max()) <= 1024.01
    shown = labels_of(large).set_index("image")["labels"].str.split("|").explode()
    assert set(zip(boxes["image"], boxes["finding"], strict=True)) == set(shown[shown != "No Finding"].items())


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_an_earlier_release_is_replaced_as_a_whole_or_not_at_all(tmp_path, monkeypatch, error):
    folder = write(tmp_path / "phantoms")
    before = contents(folder)
    draw, numbers = release.draw_radiograph, count()

    def fail_at_the_sixth(*args, **kwargs):
        if next(numbers) == 5:
            raise error
        return draw(*args, **kwargs)

    monkeypatch.setattr(release, "draw_radiograph", fail_at_the_sixth)
    with pytest.raises(type(error)):
        write(folder, n_patients=9, seed=1)
    assert contents(folder) == before
    monkeypatch.undo()
    write(folder, n_patients=2, seed=1)
    assert contents(folder) == contents(write(tmp_path / "fresh", n_patients=2, seed=1))
    assert sorted(tmp_path.iterdir()) == [tmp_path / "fresh", folder]


def test_a_kill_leaves_no_release_and_its_leftovers_are_removed_after_an_hour(tmp_path):
    folder = tmp_path / "phantoms"
    call = f"write_release(Path({str(folder)!r}), n_patients=10**6, size=32, prevalence={{}}, seed=0)"
    program = f"from pathlib import Path; from cxr_pipeline.data.phantoms import write_release; {call}"
    source = Path(release.__file__).parents[3]
    writer = subprocess.Popen([sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": str(source)})
    try:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob(".phantoms-*/new/images/*.png")):
            assert writer.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        writer.send_signal(signal.SIGKILL)
    finally:
        writer.kill()
        writer.wait()
    assert not folder.exists()
    (leftover,) = tmp_path.iterdir()
    write(folder)
    # A recent one may belong to a process that is running.
    assert leftover.is_dir()
    os.utime(leftover, (0, 0))
    write(folder)
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize(
    ("finding", "message"),
    [
        ("Effusion", r"contains files other than phantoms.*`path`"),
        ("Effusions", r"Unknown finding 'Effusions' .* Did you mean 'Effusion'\?"),
    ],
)
def test_a_folder_with_other_files_and_an_unknown_finding_change_nothing(tmp_path, finding, message):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match=message):
        write(tmp_path, prevalence={finding: 0.4})
    assert contents(tmp_path) == {"thesis.txt": b"mine"}
