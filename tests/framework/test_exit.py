import errno
import os
import re
import signal
import time
from contextlib import suppress
from pathlib import Path

import click
import pytest
import sqlalchemy
from kedro.config import OmegaConfigLoader
from kedro.validation import ParameterValidationError
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE

from cxr_pipeline.common.errors import Unavailable, UserError
from cxr_pipeline.common.locks import Holder, Locked
from cxr_pipeline.framework.exit import clean_exit, explain
from cxr_pipeline.tracking import runs


@pytest.fixture
def ended(monkeypatch):
    """The statuses that MLflow runs were ended with."""
    statuses = []
    monkeypatch.setattr(runs, "end_active_run", statuses.append)
    return statuses


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)


def terminate_twice():
    """Receive a second signal during the cleanup, in code that recovers from errors."""
    with suppress(Exception):
        try:
            terminate()
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
    pytest.fail("The termination was caught.")


def fail_with(error):
    def fail():
        raise error

    return fail


HOLDER = Holder("host", 7, 0.0, "2031-05-04T02:00:00+00:00", "chest_retraining")


def fail_during(signum):
    """Lose a signal in another error, as OmegaConf does when it is interrupted."""

    def work():
        try:
            signal.raise_signal(signum)
        except BaseException:
            error = AttributeError("'NoneType' object has no attribute '_invalidate_flags_cache'")
        raise error

    return work


@pytest.mark.parametrize(
    ("work", "status", "message", "run_status"),
    [
        (fail_with(UserError("there is\nno image")), 1, "there is; no image", []),
        (fail_with(Unavailable("no server answers")), 69, "no server answers", []),
        (fail_with(MlflowException("API request to http://host failed: refused")), 69, "MLflow at ", []),
        (fail_with(Locked("chest", HOLDER)), 75, "process 7 on host, since 2031-05-04T02:00:00+00:00", []),
        (fail_with(KeyboardInterrupt()), 130, "Interrupted.", ["KILLED"]),
        (fail_during(signal.SIGINT), 130, "Interrupted.", ["KILLED"]),
        (fail_during(signal.SIGTERM), 143, "Terminated.", ["KILLED"]),
        (terminate, 143, "Terminated.", ["KILLED"]),
        (terminate_twice, 143, "Terminated.", ["KILLED"]),
    ],
)
def test_a_failure_ends_with_its_status_and_one_message(work, status, message, run_status, ended, capsys):
    with pytest.raises(SystemExit) as exited, clean_exit(separator="; "):
        work()
    assert exited.value.code == status
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("Error: ")
    assert message in line
    assert ended == run_status
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_defect_keeps_its_traceback(ended):
    with pytest.raises(ZeroDivisionError), clean_exit():
        _ = 1 / 0


def raised_from(cause):
    error = RuntimeError("node failed")
    error.__cause__ = cause
    return error


MISTAKE = UserError("sources.images.path: no folder at /x")
AWAY = MlflowException("API request to http://host failed with exception Connection refused")


@pytest.mark.parametrize("cause", [MISTAKE, AWAY, ParameterValidationError("- Parameter 'x': wrong")])
def test_only_explicit_causes_of_an_error_are_explained(cause):
    assert explain(cause) is not None
    assert explain(raised_from(raised_from(cause))) == explain(cause)
    defect = ZeroDivisionError()
    defect.__context__ = cause
    assert explain(defect) is None


def error_of(call):
    with pytest.raises(Exception) as raised:
        call()
    return raised.value


@pytest.mark.parametrize(
    ("env", "file", "message"),
    [
        ("dmeo", "", "{0}/dmeo. Expected a folder of the configuration"),
        ("base", "a: [1", "Invalid YAML or JSON file {0}/base/parameters.yml"),
        ("base", 'a: "${nowhere}"', "The configuration cannot be read: Interpolation key 'nowhere' not found"),
    ],
)
def test_a_folder_or_file_of_the_configuration_that_cannot_be_read_is_named(tmp_path, env, file, message):
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "parameters.yml").write_text(file)
    loader = OmegaConfigLoader(str(tmp_path), base_env="base", default_run_env="base", env=env)
    explained, status = explain(error_of(lambda: loader["parameters"]))
    assert message.format(tmp_path) in explained
    assert "\n" not in explained
    assert status == 1


def fill(database):
    engine = sqlalchemy.create_engine(f"sqlite:///{database}")
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text("PRAGMA max_page_count = 1"))
        connection.execute(sqlalchemy.text("CREATE TABLE runs (run_id TEXT)"))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/data/a.png"), "/data/a.png could not be written: No space"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "A file could not be written: Disk quota exceeded. Free some"),
        (OSError(errno.EROFS, "Read-only file system", "a", None, "/ro/b"), "/ro/b could not be written: Read-only"),
        (RuntimeError(), "The SQLite file of MLflow could not be written: database or disk is full. Free"),
        (
            MlflowException("database or disk is full", error_code=TEMPORARILY_UNAVAILABLE),
            "The SQLite file of MLflow could not be written: database or disk is full. Free",
        ),
    ],
)
def test_a_full_disk_is_explained(tmp_path, error, message):
    if not isinstance(error, OSError):
        error.__cause__ = error_of(lambda: fill(tmp_path / "mlflow.db"))
    explained, status = explain(raised_from(error))
    assert explained.startswith(message)
    assert explained.endswith("run the same command again: it resumes.")
    assert status == 1


def test_what_kedro_says_about_the_command_line_is_kept():
    from kedro.framework.cli.project import run
    from kedro.pipeline import Pipeline

    arguments = {**dict.fromkeys((parameter.name for parameter in run.params), ""), "runner": "N", "runner_params": {}}
    message = "module 'kedro.runner' has no attribute 'N'. kedro run --help describes the options."
    assert explain(error_of(lambda: run.callback(**arguments))) == (message, 1)
    # The same error of a program that uses Kedro is a defect.
    assert explain(error_of(lambda: Pipeline([]).only_nodes("a"))) is None


def test_the_documentation_lists_every_exit_status():
    table = (Path(__file__).parents[2] / "docs" / "reference" / "exit_statuses.md").read_text("utf-8")
    signals = {128 + signal.SIGINT, 128 + signal.SIGTERM}
    errors = {error.exit_code for error in (UserError, Unavailable, Locked, click.UsageError)}
    assert {int(status) for status in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)} == {0} | errors | signals
