import cv2
import numpy as np
import pytest
import yaml


@pytest.fixture
def images(tmp_path):
    """Twelve images of 32 pixels of six patients in two class folders."""
    for number in range(12):
        file = tmp_path / "images" / ("normal" if number % 4 < 2 else "mass") / f"p{number // 2}_{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(file), np.random.default_rng(number).integers(0, 256, (40, 32), np.uint8))
    return tmp_path / "images"


def test_a_task_is_proposed_and_has_all_pipelines(project, images, kedro):
    written = kedro(project, "task", "new", "lung_mass", "--folder", str(images))
    assert written.returncode == 0, written.stdout
    for line in (
        "Images: 12 of 6 patients.",
        "  mass: 6",
        "Positive class: mass (the last). If it is normal, swap the two lines in tasks.yml.",
        "Shorter side: 32 pixels, in 12 of the images.",
    ):
        assert line in written.stdout
    assert "To train a first model: kedro run --pipeline=lung_mass" in written.stdout
    file = project / "conf" / "local" / "parameters" / "tasks.yml"
    assert "# Check: patient_id is a guess" in file.read_text("utf-8")
    again = kedro(project, "task", "new", "lung_mass", "--folder", str(images))
    assert (again.returncode, again.stdout.startswith("Error: There is a task lung_mass already.")) == (1, True)
    assert kedro(project, "task", "new", "other", "--folder", str(images)).returncode == 0
    assert list(yaml.safe_load(file.read_text("utf-8"))) == ["lung_mass", "other"]

    run = kedro(project, "run", "--pipeline=lung_mass", "--to-outputs=lung_mass.splits")
    assert run.returncode == 0, run.stdout
    assert "- other_retraining" in kedro(project, "registry", "list").stdout
    wrong = kedro(project, "lineage", "lung_mas")
    assert "expected one of effusion" in wrong.stdout
    assert "Did you mean lung_mass?" in wrong.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["9lungs", "--folder", "."], "Error: '9lungs' cannot be the name of a task. Expected letters"),
        (["lungs"], "Error: Give the images: kedro task new lungs --folder DIR, or --table FILE for a label table."),
        (["lungs", "--folder", "absent"], "Error: There is no folder or file absent."),
    ],
)
def test_wrong_arguments_are_named_and_nothing_is_written(arguments, message, project, kedro):
    done = kedro(project, "task", "new", *arguments)
    assert (done.returncode, done.stdout.startswith(message)) == (1, True), done.stdout
    assert not (project / "conf" / "local" / "parameters").exists()
