import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.phantoms import draw_patient, release, write_release
from cxr_pipeline.data.sources import nih

HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
ALL = {"Effusion": 0.4, "Pneumonia": 0.2, "Mass": 0.2, "Nodule": 0.2, "Cardiomegaly": 0.2, "Pneumothorax": 0.2}


def write(folder, n_patients=4, size=32, seed=0, prevalence=None):
    chosen = ALL if prevalence is None else prevalence
    write_release(folder, n_patients=n_patients, size=size, prevalence=chosen, seed=seed)
    return folder


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def table_of(folder):
    names = ["image", "labels", "follow_up", "patient", "age", "sex", "view", "width", "height", "x", "y"]
    return pd.read_csv(folder / "Data_Entry_2017_phantoms.csv", skiprows=1, names=names)


@pytest.fixture(scope="module")
def records():
    """The images of 1,500 patients, without pixels."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(release, "draw_image", lambda rng, **image: (np.zeros((32, 32), np.uint8), []))
        images = [
            image for patient in range(1500) for image in draw_patient(patient + 1, size=32, prevalence=ALL, seed=0)
        ]
    table = pd.DataFrame(
        {name: [getattr(image, name) for image in images] for name in ("patient", "age", "sex", "view")}
    )
    for finding in ALL:
        table[finding] = [finding in image.labels for image in images]
    return table


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    return write(tmp_path_factory.mktemp("large") / "phantoms", n_patients=90)


@pytest.fixture(scope="module")
def grey(large):
    images = table_of(large)["image"]
    return np.stack([cv2.imread(str(large / "images" / image), cv2.IMREAD_UNCHANGED) for image in images])


def auc(score, label):
    ranks = pd.Series(score).rank().to_numpy()
    positive = label.sum()
    return (ranks[label].sum() - positive * (positive + 1) / 2) / (positive * (len(label) - positive))


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    assert contents(write(tmp_path / "one")) == contents(write(tmp_path / "two"))
    assert contents(write(tmp_path / "one")) != contents(write(tmp_path / "three", seed=1))


def test_more_patients_leave_the_earlier_ones_as_they_are(tmp_path):
    few, many = contents(write(tmp_path / "few", n_patients=3)), contents(write(tmp_path / "many", n_patients=6))
    assert len(many) > len(few)
    for name, content in few.items():
        assert many[name].startswith(content) if name.endswith(".csv") else many[name] == content


def test_the_release_has_the_form_of_nih(tmp_path):
    folder = write(tmp_path / "phantoms", n_patients=12)
    header, *rows = (folder / "Data_Entry_2017_phantoms.csv").read_text().splitlines()
    assert header == HEADER
    assert all(row.count(",") == 10 for row in rows)
    boxes = (folder / "BBox_List_2017.csv").read_text().splitlines()
    assert boxes[0] == "Image Index,Finding Label,Bbox [x,y,w,h],,,"
    assert all(row.count(",") == 8 and row.endswith(",,,") for row in boxes)
    assert {path.name for path in (folder / "images").iterdir()} == set(table_of(folder)["image"])
    first = cv2.imread(str(folder / "images" / "00000001_000.png"), cv2.IMREAD_UNCHANGED)
    assert first.shape == (32, 32)
    assert first.dtype == np.uint8


def test_the_columns_are_those_of_the_real_release(shared_data, large):
    for ours, real in (
        ("Data_Entry_2017_phantoms.csv", "Data_Entry_2017_v2020.csv.gz"),
        ("BBox_List_2017.csv", "BBox_List_2017.csv"),
    ):
        columns = [pd.read_csv(path, nrows=5).dtypes for path in (large / ours, shared_data / "nih" / real)]
        assert list(columns[0].index) == list(columns[1].index)
        assert list(columns[0]) == list(columns[1])


def test_the_layout_of_nih_reads_it(large):
    listing = nih.read(large)
    assert len(listing.images) == len(table_of(large))
    assert len(listing.refused) == listing.n_missing == 0


def test_patients_have_one_to_four_images_and_do_not_grow_younger(large):
    table = table_of(large)
    patients = table.groupby("patient")
    assert list(patients.groups) == list(range(1, 91))
    assert set(patients.size()) == {1, 2, 3, 4}
    for number, images in patients:
        assert list(images["follow_up"]) == list(range(len(images)))
        assert images["age"].is_monotonic_increasing
        assert set(images["sex"]) in ({"F"}, {"M"})
        assert (images["image"] == [f"{number:08d}_{visit:03d}.png" for visit in range(len(images))]).all()
    assert table["age"].between(0, 100).all()
    assert set(table["sex"]) == {"F", "M"}
    assert 0.2 < (table["view"] == "AP").mean() < 0.5


def test_findings_are_as_frequent_as_asked(records):
    for finding, fraction in ALL.items():
        assert records[finding].mean() == pytest.approx(fraction, abs=0.03)


def test_labels_are_joined_by_a_bar_and_no_finding_stands_alone(large):
    shown = table_of(large)["labels"].str.split("|")
    assert any(len(labels) > 1 for labels in shown)
    assert any(labels == ["No Finding"] for labels in shown)
    assert not any("No Finding" in labels and len(labels) > 1 for labels in shown)


@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_a_prevalence_of_none_and_all(tmp_path, fraction):
    labels = table_of(write(tmp_path / "phantoms", prevalence={"Mass": fraction}))["labels"]
    assert set(labels) == ({"Mass"} if fraction else {"No Finding"})


def test_a_patients_images_tend_to_show_the_same(records):
    following = records["patient"].to_numpy()[1:] == records["patient"].to_numpy()[:-1]
    effusion = records["Effusion"].to_numpy()
    again = effusion[1:][following & effusion[:-1]].mean()
    new = effusion[1:][following & ~effusion[:-1]].mean()
    assert 0.5 < again < 0.8
    assert 0.15 < new < 0.35


def test_neither_age_nor_sex_nor_view_tells_the_finding(records):
    for score in (records["age"], records["sex"] == "F", records["view"] == "AP"):
        assert 0.47 < auc(score.to_numpy().astype(float), records["Effusion"].to_numpy()) < 0.53


def test_neither_mean_grey_nor_that_of_a_quadrant_tells_the_finding(large, grey):
    effusion = table_of(large)["labels"].str.contains("Effusion").to_numpy()
    parts = (grey, grey[:, :16, :16], grey[:, :16, 16:], grey[:, 16:, :16], grey[:, 16:, 16:])
    for part in parts:
        assert 0.33 < auc(part.mean(axis=(1, 2)), effusion) < 0.67


def test_boxes_lie_in_the_frame_of_1024_px_and_cover_every_finding(large):
    names = ["image", "finding", "x", "y", "w", "h"]
    boxes = pd.read_csv(large / "BBox_List_2017.csv", skiprows=1, names=names, usecols=range(6))
    assert (boxes[["x", "y"]] >= 0).all(axis=None)
    assert (boxes[["w", "h"]] > 0).all(axis=None)
    assert (boxes["x"] + boxes["w"] <= 1024.01).all()
    assert (boxes["y"] + boxes["h"] <= 1024.01).all()
    assert (boxes["x"] + boxes["w"]).max() > 512
    table = table_of(large)
    labelled = {(image.image, label) for image in table.itertuples() for label in image.labels.split("|")}
    boxed = set(zip(boxes["image"], boxes["finding"], strict=True))
    assert boxed == {pair for pair in labelled if pair[1] != "No Finding"}


def test_a_patient_does_not_depend_on_the_others(tmp_path):
    folder = write(tmp_path / "phantoms", n_patients=5)
    for image in draw_patient(5, size=32, prevalence=ALL, seed=0):
        written = cv2.imread(str(folder / "images" / image.image), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(image.pixels, written)


def fail_after(monkeypatch, n_images, error):
    drawn = []
    draw = release.draw_image

    def draw_until(*args, **kwargs):
        if len(drawn) == n_images:
            raise error
        drawn.append(1)
        return draw(*args, **kwargs)

    monkeypatch.setattr(release, "draw_image", draw_until)


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_failure_leaves_no_release_and_no_rest(tmp_path, monkeypatch, error):
    fail_after(monkeypatch, 5, error)
    with pytest.raises(type(error)):
        write(tmp_path / "phantoms", n_patients=9)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_the_earlier_release_as_it_was(tmp_path, monkeypatch):
    folder = write(tmp_path / "phantoms")
    before = contents(folder)
    fail_after(monkeypatch, 5, OSError("disk full"))
    with pytest.raises(OSError, match="disk full"):
        write(folder, n_patients=9, seed=1)
    assert contents(folder) == before
    assert list(tmp_path.iterdir()) == [folder]


def test_an_earlier_release_is_replaced_whole(tmp_path):
    folder = write(tmp_path / "phantoms", n_patients=6)
    write(folder, n_patients=2, seed=1)
    assert contents(folder) == contents(write(tmp_path / "fresh", n_patients=2, seed=1))
    assert sorted(tmp_path.iterdir()) == [tmp_path / "fresh", folder]


def test_a_kill_leaves_nothing_that_looks_finished(tmp_path):
    folder = tmp_path / "phantoms"
    call = f"write_release(Path({str(folder)!r}), n_patients=10**6, size=32, prevalence={{}}, seed=0)"
    program = f"from pathlib import Path; from cxr_pipeline.data.phantoms import write_release; {call}"
    source = Path(release.__file__).parents[3]
    writer = subprocess.Popen([sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": str(source)})
    try:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob(".phantoms.*/images/*.png")):
            assert writer.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        writer.send_signal(signal.SIGKILL)
    finally:
        writer.kill()
        writer.wait()
    assert not folder.exists()
    assert len(list(tmp_path.iterdir())) == 1
    write(folder)
    assert list(tmp_path.iterdir()) == [folder]


def test_what_a_running_process_writes_is_left_alone(tmp_path):
    running = tmp_path / f".phantoms.{platform.node()}-{os.getppid()}.partial"
    elsewhere = tmp_path / ".phantoms.another-machine-999999999.partial"
    running.mkdir()
    elsewhere.mkdir()
    write(tmp_path / "phantoms")
    assert running.is_dir()
    assert elsewhere.is_dir()


def test_a_folder_with_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match=r"something else than phantoms.*`path`"):
        write(tmp_path)
    assert contents(tmp_path) == {"thesis.txt": b"mine"}


def test_an_empty_folder_is_used(tmp_path):
    (tmp_path / "phantoms").mkdir()
    assert (write(tmp_path / "phantoms") / "BBox_List_2017.csv").is_file()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"prevalence": {"Effusions": 0.4}}, "'Effusions'.*did you mean Effusion"),
        ({"prevalence": {"Effusion": 1.4}}, r"Effusion must lie between 0 and 1, found 1\.4"),
        ({"prevalence": {"Effusion": float("nan")}}, "found nan"),
        ({"n_patients": 0}, "`n_patients` must be 1 or more, found 0"),
        ({"size": 16}, "`size` .* 32 px or more, found 16"),
    ],
)
def test_impossible_parameters_are_named_and_nothing_is_written(tmp_path, wrong, said):
    with pytest.raises(UserError, match=said):
        write(tmp_path / "phantoms", **wrong)
    assert list(tmp_path.iterdir()) == []
