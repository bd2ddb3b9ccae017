import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress

import pytest
from mlflow.exceptions import MlflowException

from cxr_pipeline import tracking
from cxr_pipeline.common.errors import Terminated, Unavailable, UserError
from cxr_pipeline.common.locks import Holder, Locked
from cxr_pipeline.framework.exit import clean_exit


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
