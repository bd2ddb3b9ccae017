"""The notebooks run from top to bottom, and are stored without output."""

import os
import sys
from pathlib import Path

import nbformat
import pytest
import yaml
from demo_projects import data, versions
from nbclient import NotebookClient

from cxr_pipeline.common.mappings import lay_over, nest

REPOSITORY = Path(__file__).parents[2]
NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))


@pytest.fixture
def execute(demo_copy, monkeypatch):
    """Execute a notebook in a copy of the demo project: ``execute("01_explore_images")``."""
    folder = demo_copy.folder / "notebooks"
    folder.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(demo_copy.folder / "src"))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("KEDRO_LOGGING_CONFIG", raising=False)

    def run(name, **replaced):
        text = (REPOSITORY / "notebooks" / f"{name}.ipynb").read_text("utf-8")
        for old, new in replaced.items():
            assert old in text
            text = text.replace(old, new)
        notebook = nbformat.reads(text, as_version=4)
        NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder)}}).execute()

    return run


def files(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_stored_without_output(notebook):
    cells = [cell for cell in nbformat.read(notebook, as_version=4).cells if cell.cell_type == "code"]
    assert [cell.source for cell in cells if cell.outputs or cell.execution_count is not None] == []


@pytest.mark.parametrize("name", ["01_explore_images", "02_read_a_run"])
def test_reading_a_run_changes_nothing(execute, demo_copy, name):
    before = files(data(demo_copy.folder))
    execute(name)
    assert files(data(demo_copy.folder)) == before


@pytest.mark.slow
def test_three_forms_of_images_become_tasks(execute, demo_copy):
    execute("03_bring_your_own_images", **{"N_PATIENTS, EPOCHS = 300, 30": "N_PATIENTS, EPOCHS = 40, 2"})
    tasks = yaml.safe_load((demo_copy.folder / "conf/local/parameters/tasks.yml").read_text())
    layouts = {name: block["sources"]["images"]["layout"] for name, block in tasks.items()}
    assert layouts == {
        "phantom_folder": "class_folders",
        "phantom_table": "label_table",
        "phantom_dicom": "dicom_folder",
    }


@pytest.mark.slow
def test_comparing_registers_a_second_version(execute, demo_copy):
    # The notebook runs the task without --params. The configuration gets those of the demo run: no training.
    given = dict(part.split("=", 1) for part in demo_copy.command[-1].split(","))
    file = demo_copy.folder / "conf/demo/parameters/tasks.yml"
    parameters = nest({name: yaml.safe_load(value) for name, value in given.items()})
    file.write_text(yaml.safe_dump(lay_over(yaml.safe_load(file.read_text()), parameters)))
    execute("04_compare_models")
    assert sorted(int(version.version) for version in versions(demo_copy.folder)) == [1, 2]
    assert (data(demo_copy.folder) / "08_reporting" / "leaderboard.csv").exists()
