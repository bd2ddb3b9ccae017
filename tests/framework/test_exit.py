import errno
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import sqlalchemy
from kedro.config import MissingConfigException, OmegaConfigLoader
from kedro.validation import ParameterValidationError
from mlflow.exceptions import MlflowException

from cxr_pipeline import tracking
from cxr_pipeline.common.errors import Terminated, Unavailable, UserError
from cxr_pipeline.common.locks import Holder, Locked
from cxr_pipeline.framework.exit import clean_exit, explain


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statuses that MLflow runs were ended with."""
    statuses: list[str] = []
    monkeypatch.setattr(tracking, "end_active_run", statuses.append)
    return statuses


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)


def terminate_code_that_recovers_from_errors() -> None:
    with suppress(Exception):
        terminate()
    pytest.fail("The termination was caught.")


def fail_with(error: BaseException) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


HOLDER = Holder("host", 7, 0.0, "2031-05-04T02:00:00+00:00", "chest_retraining")


@pytest.mark.parametrize(
    ("work", "status", "message", "run_status"),
    [
        (fail_with(UserError("there is no image")), 1, "there is no image", []),
        (fail_with(Unavailable("no server answers")), 69, "no server answers", []),
        (fail_with(MlflowException("API request to http://host failed: refused")), 69, "MLflow at ", []),
        (fail_with(Locked("chest", HOLDER)), 75, "process 7 on host, since 2031-05-04T02:00:00+00:00", []),
        (fail_with(KeyboardInterrupt()), 130, "Interrupted.", ["KILLED"]),
        (terminate, 143, "Terminated.", ["KILLED"]),
        (terminate_code_that_recovers_from_errors, 143, "Terminated.", ["KILLED"]),
    ],
)
def test_a_failure_ends_with_its_status_and_one_message(work, status, message, run_status, ended, capsys) -> None:
    with pytest.raises(SystemExit) as exited, clean_exit():
        work()
    assert exited.value.code == status
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("Error: ")
    assert message in line
    assert ended == run_status
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_defect_keeps_its_traceback(ended: list[str]) -> None:
    with pytest.raises(ZeroDivisionError), clean_exit():
        _ = 1 / 0


def test_the_lines_of_a_message_can_be_joined(ended: list[str], capsys) -> None:
    with pytest.raises(SystemExit), clean_exit(separator="; "):
        raise UserError("a\nb")
    assert capsys.readouterr().err == "Error: a; b\n"


def test_cleanup_runs_to_its_end_when_a_second_signal_arrives(ended: list[str]) -> None:
    cleaned = []
    with pytest.raises(SystemExit) as exited, clean_exit():
        try:
            terminate()
        except Terminated:
            os.kill(os.getpid(), signal.SIGTERM)
            cleaned.append(True)
            raise
    assert cleaned == [True]
    assert exited.value.code == 143


MISTAKE = UserError("sources.images.path: no folder at /x")
AWAY = MlflowException("API request to http://host failed with exception Connection refused")


def raised_from(cause: Exception) -> Exception:
    try:
        try:
            raise cause
        except Exception as error:
            raise RuntimeError("node failed") from error
    except RuntimeError as error:
        return error


def raised_while_handling(cause: Exception) -> Exception:
    try:
        try:
            raise cause
        except Exception:
            return 1 / 0
    except ZeroDivisionError as error:
        return error


def test_a_missing_environment_is_named(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    loader = OmegaConfigLoader(str(tmp_path), base_env="base", env="dmeo")
    with pytest.raises(MissingConfigException) as raised:
        loader["parameters"]
    assert f"{tmp_path}/dmeo. Expected a folder of the configuration" in str(explain(raised.value))


def test_a_user_error_is_found_below_the_errors_raised_from_it() -> None:
    assert explain(raised_from(raised_from(MISTAKE))) == (str(MISTAKE), 1)


@pytest.mark.parametrize("cause", [MISTAKE, AWAY, ParameterValidationError("- Parameter 'x': wrong")])
def test_a_defect_raised_while_handling_a_user_error_has_no_message(cause: Exception) -> None:
    assert explain(cause) is not None
    assert explain(raised_while_handling(cause)) is None
    assert explain(MlflowException("no such run")) is None


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("a: [1", "Invalid YAML or JSON file {}"),
        ('a: "${nowhere}"', "The configuration cannot be read: Interpolation key 'nowhere' not found"),
    ],
)
def test_a_file_of_the_configuration_that_cannot_be_read_is_named(tmp_path: Path, file: str, message: str) -> None:
    (tmp_path / "base").mkdir()
    path = tmp_path / "base" / "parameters.yml"
    path.write_text(file)
    with pytest.raises(Exception) as raised:
        OmegaConfigLoader(str(tmp_path), base_env="base", default_run_env="base")["parameters"]
    explained = explain(raised.value)
    assert explained is not None
    assert explained[0].startswith(message.format(path))
    assert "\n" not in explained[0]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/data/a.png"), "/data/a.png could not be written: No space"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "A file could not be written: Disk quota exceeded. Free some"),
        (OSError(errno.EROFS, "Read-only file system", "a", None, "/ro/b"), "/ro/b could not be written: Read-only"),
    ],
)
def test_a_full_disk_is_explained(error: OSError, message: str) -> None:
    explained = explain(raised_from(error))
    assert explained is not None
    assert explained[0].startswith(message)
    assert explained[0].endswith("run the same command again: it resumes.")
    assert explained[1] == 1


def test_a_full_disk_is_explained_for_the_database_of_mlflow(tmp_path: Path) -> None:
    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path / 'mlflow.db'}")
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text("PRAGMA max_page_count = 1"))
        with pytest.raises(sqlalchemy.exc.OperationalError) as raised:
            connection.execute(sqlalchemy.text("CREATE TABLE runs (run_id TEXT)"))
    explained = explain(raised.value)
    assert explained is not None
    assert explained[0].startswith("The SQLite file of MLflow could not be written: database or disk is full. Free")


def error_of(call: Callable[[], object]) -> Exception:
    try:
        call()
    except Exception as error:
        return error
    raise AssertionError


def test_what_kedro_says_about_the_command_line_is_kept(tmp_path: Path) -> None:
    from kedro.framework.cli.project import run
    from kedro.pipeline import Pipeline

    arguments = {**dict.fromkeys((parameter.name for parameter in run.params), ""), "runner": "N", "runner_params": {}}
    message = "module 'kedro.runner' has no attribute 'N'. kedro run --help describes the options."
    assert explain(error_of(lambda: run.callback(**arguments))) == (message, 1)
    # The same error of a program that uses Kedro is a defect.
    assert explain(error_of(lambda: Pipeline([]).only_nodes("a"))) is None
