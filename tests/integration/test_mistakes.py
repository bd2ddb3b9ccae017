"""User errors: a message that names the error, no traceback, no files written."""

import os

import cv2
import numpy as np
import pytest
from demo_projects import arguments, succeeded, words


def fails(finished, status=1):
    """Return the message of a run that failed without a traceback."""
    printed = finished.stdout
    assert finished.returncode == status, printed
    assert "Traceback" not in printed
    assert "Error: " in printed
    return words(printed[printed.index("Error: ") :])


def test_an_invalid_parameter(project, kedro):
    argmax = arguments("effusion", "effusion.thresholds.policy.rule=argmax")
    assert "this task is binary" in fails(kedro(project, *argmax))
    assert not (project / "data").exists()


def test_damaged_images_are_refused_and_stop_the_run_only_if_they_are_many(project, kedro, tmp_path):
    images = tmp_path / "raw" / "effusion"
    rng = np.random.default_rng(0)
    for name in ("effusion", "nofinding"):
        (images / name).mkdir(parents=True)
        for number in range(12):
            cv2.imwrite(str(images / name / f"{number}.png"), rng.integers(0, 255, (40, 40), dtype=np.uint8))
    (images / "effusion" / "text.png").write_text("no image")
    (images / "effusion" / "-empty\n胸.png").write_bytes(b"")
    command = ("run", "--pipeline=effusion", "--to-outputs=effusion.data_report", "--params")
    small = "effusion.model.name=small_cnn,effusion.model.weights=none,effusion.resolution.size=32"
    params = f"raw={tmp_path / 'raw'},{small}"
    succeeded(kedro(project, *command, params))
    quarantine = (project / "data/08_reporting/effusion/quarantine.csv").read_text()
    assert "unreadable" in quarantine
    assert "empty" in quarantine
    message = fails(kedro(project, *command, f"{params},effusion.ingestion.max_quarantined_fraction=0.01"))
    assert "2 of 26 images were refused" in message


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_folder(project, kedro):
    (project / "data").mkdir(mode=0o500)
    assert "could not be written" in fails(kedro(project, "run", "--env", "demo", "--pipeline=effusion"))


def test_a_file_in_the_way_of_the_data_folder(project, kedro):
    (project / "data").write_text("")
    assert str(project / "data") in fails(kedro(project, "run", "--env", "demo", "--pipeline=effusion"))


def test_a_wrong_name_of_a_node_ends_with_one_line(project, kedro):
    finished = kedro(project, "run", "--pipeline=effusion", "--nodes=fit_model")
    assert "'effusion.training.fit_model'" in fails(finished)
    started, message = finished.stdout.splitlines()
    assert started.endswith("Starting effusion.")
    assert message.startswith("Error: ")
    assert not (project / "mlflow.db").exists()
