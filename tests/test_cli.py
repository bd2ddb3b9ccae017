import io
import logging
import os
import re
import subprocess
import sys

import click
import pytest
import rich
from click.testing import CliRunner

from cxr_pipeline import cli as module
from cxr_pipeline.cli import cli
from cxr_pipeline.pipeline_registry import register_pipelines

PARAMS = {"effusion": {"model": {"dropout": 0.2}}}
FILE = {"params": {"effusion": {"model": {"dropout": 0.1, "head_units": 8}}, "raw": "/images"}, "env": "demo"}


@pytest.mark.parametrize(
    ("file", "merged"),
    [({}, PARAMS), (FILE, {"effusion": {"model": {"dropout": 0.2, "head_units": 8}}, "raw": "/images"})],
)
def test_parameters_of_the_command_line_are_merged_over_those_of_a_file(monkeypatch, file, merged):
    monkeypatch.setattr("kedro.framework.project.pipelines", ["effusion"])
    monkeypatch.setattr(module.kedro_run, "callback", lambda **given: given)
    names = {"pipeline": "effusion", "pipelines": []}
    assert cli.commands["run"].params == module.kedro_run.params
    with click.Context(click.Command("run"), default_map=file):
        assert module.run.callback(params=PARAMS, env=None, **names) == {"params": merged, "env": None, **names}


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"to_outputs": ["pneumonia.metrics"]}, "pneumonia"),
        ({"to_nodes": ["effusion.drift.measure_drift"]}, "effusion_drift"),
        ({"to_outputs": ["leaderboard"]}, "comparison"),
        ({"to_outputs": ["effusion.metrics"]}, None),
        ({"to_outputs": ["nothing"]}, None),
        ({}, None),
    ],
)
def test_nodes_and_outputs_tell_the_pipeline(monkeypatch, options, name):
    monkeypatch.setattr("kedro.framework.project.pipelines", register_pipelines())
    monkeypatch.setattr(module.kedro_run, "callback", lambda **given: given["pipeline"])
    with click.Context(click.Command("run")):
        assert module.run.callback(params={}, pipeline=None, pipelines=[], **options) == name


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", "--pipeline=efusion"), "no pipeline 'efusion'. Did you mean --pipeline=effusion?"),
        (("run", "--pipeline=xyz"), "no pipeline 'xyz'. Give one that kedro registry list shows."),
        (("run", "--params", "effusion.task.classes.effusion=[Pleural", "Effusion]"), "Put the whole option in quotes"),
        (
            ("run", "--params", "effusion.raw", "=", "/x"),
            "must contain a key and a value separated by `=`. Put no",
        ),
        (("run", "effusion"), "extra argument (effusion). Did you mean --pipeline=effusion? kedro run --help"),
        (("task", "new", "lung", "/x"), "Did you mean --folder=/x? kedro task new --help lists the options."),
        (("predict", "x.png"), "there is no task 'x.png'"),
        (("predict", "x.png"), "chest14. Type kedro predict TASK IMAGE... kedro predict --help lists the options."),
        (("predict", "effusion", "x.png"), "There is no file x.png. Give the path of an image."),
        (("run", "--runner=ParallelRunner"), "ParallelRunner cannot be used"),
        (("run", "--nope"), "kedro run --help"),
        (("run", "--conf-source", "nowhere"), "Path 'nowhere' does not exist"),
        (("lineage", "efusion"), "there is no task 'efusion', expected one of effusion"),
        (("jupyter", "lba"), "No such command 'lba'"),
    ],
)
def test_wrong_arguments_end_with_one_line(monkeypatch, arguments, words):
    monkeypatch.setattr("kedro.framework.project.pipelines", ["effusion", "effusion_drift"])
    ended = CliRunner().invoke(cli, arguments, prog_name="kedro")
    assert isinstance(ended.exception, SystemExit)
    assert ended.exit_code in (1, 2)
    (line,) = (line for line in ended.output.splitlines() if "Starting" not in line)
    assert line.startswith("Error: ")
    assert words in line


@pytest.mark.parametrize(
    ("folder", "arguments", "status", "printed"),
    [
        (
            "",
            ("run",),
            2,
            "Error: {} is not in a Kedro project. Change to the folder of a project (cd FOLDER), or ",
        ),
        (
            "project/data",
            ("lineage", "x"),
            2,
            "Error: Invalid value for 'TASK': there is no task 'x', expected one of effusion",
        ),
    ],
)
def test_a_command_prints_one_line_outside_a_project_and_in_its_subfolders(
    tmp_path, project, folder, arguments, status, printed
):
    (project / "data").mkdir()
    command = [sys.executable, "-m", "cxr_pipeline", *arguments]
    ended = subprocess.run(command, cwd=tmp_path / folder, capture_output=True, text=True)
    assert ended.returncode == status
    (line,) = (ended.stdout + ended.stderr).splitlines()
    assert line.startswith(printed.format(tmp_path))


def test_no_telemetry_is_sent_outside_a_project(tmp_path):
    command = [sys.executable, "-m", "cxr_pipeline", "--version"]
    environment = {name: value for name, value in os.environ.items() if name != "KEDRO_DISABLE_TELEMETRY"}
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0
    assert not re.search("anonymous|Heap", ended.stdout + ended.stderr)


def test_a_message_is_one_line_as_it_is_and_a_log_file_is_still_written(monkeypatch, tmp_path):
    root, printed, file = logging.getLogger(), io.StringIO(), logging.FileHandler(tmp_path / "run.log")
    handler = logging.StreamHandler(io.StringIO())
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    monkeypatch.setattr(root, "handlers", [handler, file])
    monkeypatch.setattr(rich, "_console", rich.console.Console(file=printed, width=20))
    path = f"/folder/{'deep/' * 20}[bold]:smile:"
    try:
        module.log_lines()
        logging.getLogger("cxr_pipeline.test").warning("See %s", path)
    finally:
        logging.captureWarnings(False)
        file.close()
    assert printed.getvalue() == f"WARNING See {path}\n"
    assert (tmp_path / "run.log").read_text() == f"See {path}\n"
