"""What a run tells MLflow while its server goes away and comes back; the server is one that can be switched off."""

import json
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.exceptions import MlflowException

from cxr_pipeline.tracking import leftovers, operations, sending, server
from cxr_pipeline.tracking.sending import NotSent
from cxr_pipeline.tracking.unsent import Unsent

AWAY = "API request to http://host/api failed with exception Connection refused"


class Switch:
    """Stands between a run and MLflow."""

    def __init__(self) -> None:
        self.on = True
        self.calls: list[dict[str, Any]] = []
        self.fails_after: int | None = None
        self.looks = 0

    def perform(self, operation: dict[str, Any], file: Path | None = None) -> Any:
        if not self.on or (self.fails_after is not None and len(self.calls) >= self.fails_after):
            raise MlflowException(AWAY)
        self.calls.append(operation)
        return operations.perform(operation, file)

    def answers(self, uri: str) -> bool:
        self.looks += 1
        return self.on


@pytest.fixture
def switch(monkeypatch: pytest.MonkeyPatch) -> Switch:
    found = Switch()
    for module in (sending, leftovers):
        monkeypatch.setattr(module, "perform", found.perform)
    monkeypatch.setattr(sending, "answers", found.answers)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "unsent"


@pytest.fixture
def run(switch: Switch, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The id of an active run with an outbox."""
    monkeypatch.setattr(sending, "_outbox", None)
    with mlflow.start_run() as active:
        sending.open_outbox(folder, name="effusion", command="kedro send", version_file=None)
        yield active.info.run_id


def tell(epoch: int) -> None:
    sending.log_metrics({"epoch/loss": 1 / epoch}, step=epoch)


def epochs(run: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in mlflow.MlflowClient().get_metric_history(run, "epoch/loss")]


def test_a_server_that_is_there_gets_everything_at_once(run, switch, folder, tmp_path) -> None:
    (tmp_path / "report.html").write_text("report")
    tell(1)
    sending.log_params({f"p{number}": number for number in range(130)} | {"long": "x" * 7000})
    sending.set_tags({"a": "b"})
    sending.log_artifact(tmp_path / "report.html", "pages")
    sending.end_run("FAILED")
    assert mlflow.active_run() is None
    found = mlflow.get_run(run)
    assert (found.info.status, found.data.tags["a"], found.data.params["p129"]) == ("FAILED", "b", "129")
    assert found.data.params["long"] == "x" * 6000
    assert mlflow.artifacts.load_text(f"{found.info.artifact_uri}/pages/report.html") == "report"
    sending.check_sent()
    assert not folder.exists()


def test_what_is_told_while_it_is_away_comes_later_with_its_own_time(run, switch, folder, tmp_path) -> None:
    report = tmp_path / "report.html"
    report.write_text("of this run")
    tell(1)
    switch.on = False
    tell(2)
    sending.log_params({"training.epochs": 3})
    sending.log_artifact(report)
    report.write_text("of a later run")
    tell(3)
    sending.end_run("FINISHED")
    assert mlflow.active_run() is None
    with pytest.raises(NotSent, match=r"Not sent yet: 2 metrics, 1 parameter, 1 artifact, the end of the run; .*kedro"):
        sending.check_sent()
    assert epochs(run) == [(1, 1.0)]
    kept = Unsent(folder / run).waiting()
    switch.on = True
    (sent,) = leftovers.send_left(folder)
    assert (sent.sent, sent.problem) == ("2 metrics, 1 parameter, 1 artifact, the end of the run", None)
    assert epochs(run) == [(1, 1.0), (2, 0.5), (3, 1 / 3)]
    found = mlflow.get_run(run)
    assert (found.info.status, found.info.end_time) == ("FINISHED", kept[-1]["time"])
    assert [point.timestamp for point in mlflow.MlflowClient().get_metric_history(run, "epoch/loss")][1:] == [
        operation["time"] for operation in kept if operation["kind"] == "metrics"
    ]
    assert mlflow.artifacts.load_text(f"{found.info.artifact_uri}/report.html") == "of this run"
    assert leftovers.send_left(folder) == []


def test_what_threads_tell_at_once_is_all_kept_and_sent(run, switch, folder, tmp_path) -> None:
    """As the nodes of a ThreadRunner do."""
    switch.on = False
    texts = [f"report {number}" for number in range(24)]
    for text in texts:
        (tmp_path / text).write_text(text)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda text: sending.log_artifact(tmp_path / text, text), texts))
    assert sending._outbox._lost == []
    switch.on = True
    sending.check_sent()
    uri = mlflow.get_run(run).info.artifact_uri
    assert [mlflow.artifacts.load_text(f"{uri}/{text}/{text}") for text in texts] == texts


def test_a_run_in_the_same_process_sends_what_the_one_before_could_not(run, switch, folder) -> None:
    switch.on = False
    tell(1)
    with pytest.raises(NotSent):
        sending.check_sent()
    switch.on = True
    assert [one.problem for one in leftovers.send_left(folder)] == [None]
    assert epochs(run) == [(1, 1.0)]


def test_a_server_that_is_away_is_not_waited_for_at_each_call(run, switch, monkeypatch) -> None:
    moment = [0.0]
    monkeypatch.setattr(sending.time, "monotonic", lambda: moment[0])
    switch.on = False
    for epoch in range(1, 50):
        tell(epoch)
        moment[0] += 1
    assert switch.looks == 1


def test_a_server_that_is_back_gets_what_waits_first(run, switch, folder, monkeypatch) -> None:
    moment = [0.0]
    monkeypatch.setattr(sending.time, "monotonic", lambda: moment[0])
    tell(1)
    switch.on = False
    tell(2)
    tell(3)
    switch.on = True
    tell(4)
    assert epochs(run) == [(1, 1.0)]
    moment[0] += sending.PAUSE
    tell(5)
    assert epochs(run) == [(epoch, 1 / epoch) for epoch in range(1, 6)]
    assert [call["step"] for call in switch.calls] == [1, 2, 3, 4, 5]
    sending.check_sent()
    assert not (folder / run).exists()


def test_the_end_of_a_run_looks_once_more(run, switch, folder) -> None:
    switch.on = False
    tell(1)
    switch.on = True
    sending.end_run("FINISHED")
    sending.check_sent()
    assert epochs(run) == [(1, 1.0)]
    assert mlflow.get_run(run).info.status == "FINISHED"


@pytest.fixture
def cells(run, switch, folder) -> Iterator[tuple[str, str]]:
    """Two cells that ended while the server was away: one of the active run and one of another."""
    parent, ids = sending._outbox, []
    for belongs_to in (run, "other"):
        with mlflow.start_run(nested=True) as active:
            sending.open_outbox(folder, name="baseline", command="", version_file=None, parent=belongs_to)
            switch.on = False
            sending.set_tags({"a": "b"})
            with pytest.raises(NotSent):
                sending.check_sent()
            switch.on = True
        ids.append(active.info.run_id)
    sending._outbox = parent
    return tuple(ids)


def test_a_run_sends_at_its_end_what_its_cells_could_not(run, cells, switch, folder) -> None:
    sending.check_sent()
    assert [mlflow.get_run(cell).data.tags.get("a") for cell in cells] == ["b", None]
    assert [unsent.folder.name for unsent in leftovers.left_in(folder)] == [cells[1]]


def test_a_run_whose_cells_are_not_sent_at_its_end_fails_and_names_them(run, cells, switch, folder) -> None:
    mlflow.delete_run(cells[0])
    with pytest.raises(
        NotSent, match=rf"Not sent of run {cells[0]} \(baseline\): .*1 tag kept in .*kedro send$"
    ) as raised:
        sending.check_sent()
    assert cells[1] not in str(raised.value)


@pytest.fixture
def left(run, switch, folder) -> str:
    """A run that ended while the server was away."""
    switch.on = False
    for epoch in range(1, 6):
        tell(epoch)
    sending.end_run("FINISHED")
    sending._outbox.unsent.release()
    switch.on = True
    switch.calls.clear()
    return run


def test_sending_goes_on_where_it_was_cut_short(left, switch, folder) -> None:
    switch.fails_after = 2
    (first,) = leftovers.send_left(folder)
    assert first.sent == "2 metrics"
    assert "Connection refused; 3 metrics, the end of the run kept in" in first.problem
    switch.fails_after = None
    (second,) = leftovers.send_left(folder)
    assert (second.sent, second.problem) == ("3 metrics, the end of the run", None)
    assert [call["step"] for call in switch.calls[:-1]] == [1, 2, 3, 4, 5]
    assert epochs(left) == [(epoch, 1 / epoch) for epoch in range(1, 6)]


def test_what_is_sent_twice_is_there_once(left, switch, folder, monkeypatch) -> None:
    """A kill between the answer of the server and the note of it."""

    class Killed(BaseException):
        pass

    def killed(self: Unsent) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Unsent, "acknowledge", killed)
        for _ in range(2):
            with pytest.raises(Killed):
                leftovers.send_left(folder)
    leftovers.send_left(folder)
    assert [call["step"] for call in switch.calls[:-1]] == [1, 1, 1, 2, 3, 4, 5]
    assert epochs(left) == [(epoch, 1 / epoch) for epoch in range(1, 6)]


def test_what_belongs_to_another_server_stays_where_it_is(left, switch, folder, monkeypatch) -> None:
    monkeypatch.setattr(mlflow, "get_tracking_uri", lambda: "http://user:secret@other")
    (found,) = leftovers.send_left(folder)
    assert found.sent == ""
    assert "and tracking_uri is http://other now" in found.problem
    assert switch.calls == []


def test_what_another_process_sends_is_left_to_it(left, switch, folder) -> None:
    other = Unsent(folder / left)
    other.take()
    (found,) = leftovers.send_left(folder)
    assert (found.sent, found.problem) == ("", "another process is at work on it")
    other.release()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"run_id": "r"}'])
def test_a_damaged_folder_is_named_and_the_others_are_sent(left, switch, folder, content) -> None:
    (folder / "damaged").mkdir()
    (folder / "damaged" / "about.json").write_text(content)
    found = {one.name: one for one in leftovers.send_left(folder)}
    assert f"{folder / 'damaged'} cannot be used" in found["run damaged"].problem
    assert "delete it to give it up" in found["run damaged"].problem
    assert found[f"run {left} (effusion)"].problem is None
    assert (folder / "damaged").exists()


@pytest.mark.parametrize("file", ["operations.jsonl", "sent.json"])
def test_a_file_that_is_damaged_is_named_and_the_folder_stays(left, switch, folder, file) -> None:
    (folder / left / file).write_text("{\n")
    (found,) = leftovers.send_left(folder)
    assert f"what waits is kept in {folder / left}" in found.problem
    assert (folder / left / "operations.jsonl").exists()


def test_the_folder_of_another_user_is_named_and_stays(left, switch, folder, monkeypatch) -> None:
    def refused(self: Unsent) -> None:
        raise PermissionError(13, "Permission denied", "lock")

    monkeypatch.setattr(Unsent, "take", refused)
    (found,) = leftovers.send_left(folder)
    assert f"{folder / left} cannot be used ([Errno 13] Permission denied" in found.problem


def test_a_folder_that_another_process_has_just_sent_is_no_problem(left, switch, folder, monkeypatch) -> None:
    (unsent,) = leftovers.left_in(folder)
    monkeypatch.setattr(leftovers, "left_in", lambda folder: [unsent])
    shutil.rmtree(folder / left)
    assert leftovers.send_left(folder) == [leftovers.Sending(f"run {left}", "", None)]


def test_what_the_server_refuses_is_named_and_stays(left, switch, folder) -> None:
    mlflow.delete_run(left)
    (found,) = leftovers.send_left(folder)
    assert found.sent == ""
    assert left in found.name
    assert f"5 metrics, the end of the run kept in {folder / left}" in found.problem


def test_what_a_server_refuses_during_a_run_is_a_fault(run, switch, folder) -> None:
    sending.log_params({"a": 1})
    with pytest.raises(MlflowException, match="Changing param values is not allowed"):
        sending.log_params({"a": 2})
    assert not folder.exists()


def test_a_folder_that_cannot_be_written_costs_the_sending_and_nothing_else(run, switch, folder, caplog) -> None:
    folder.write_text("a file")
    switch.on = False
    tell(1)
    tell(2)
    assert f"{folder / run} cannot be written" in caplog.text
    sending.end_run("FINISHED")
    said = r"Neither sent nor kept, since .* cannot be written: 2 metrics, the end of the run\."
    with pytest.raises(NotSent, match=said) as raised:
        sending.check_sent()
    assert "Not sent yet" not in str(raised.value)


def test_no_password_is_kept_or_said(run, switch, folder, monkeypatch, caplog) -> None:
    monkeypatch.setattr(mlflow, "get_tracking_uri", lambda: "https://user:s3cret@host/mlflow?token=s3cret")
    monkeypatch.setenv("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "false")
    sending.open_outbox(folder, name="effusion", command="kedro send", version_file=None)
    assert os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] == "true"
    switch.on = False
    tell(1)
    with pytest.raises(NotSent, match="MLflow at https://host/mlflow does not answer") as raised:
        sending.check_sent()
    kept = "".join(path.read_text() for path in (folder / run).iterdir() if path.is_file())
    assert "https://host/mlflow" in kept
    assert "s3cret" not in kept + caplog.text + str(raised.value)


def test_a_version_is_registered_later_and_once(run, switch, folder, tmp_path, monkeypatch) -> None:
    place = tmp_path / "06_models" / "model_version.json"
    sending.open_outbox(folder, name="effusion", command="kedro send", version_file=str(place))
    (tmp_path / "classifier").mkdir()
    (tmp_path / "classifier" / "model.keras").write_text("weights")
    seen: list[str] = []

    def register(operation: dict[str, Any], file: Path) -> int:
        seen.append((file / "model.keras").read_text())
        mlflow.MlflowClient().create_registered_model(operation["name"])
        source = {"source": "s3://nothing/nothing", "run_id": operation["run_id"], "tags": operation["tags"]}
        return int(mlflow.MlflowClient().create_model_version(operation["name"], **source).version)

    monkeypatch.setattr(operations, "_register", register)
    switch.on = False
    content = {"name": f"cxr-{run}", "description": "AUC 0.5", "tags": {"digest": "d"}}
    later = sending.register(tmp_path / "classifier", **content)
    unregistered = {"name": f"cxr-{run}", "version": None, "uri": None, "run_id": run, "digest": "d"}
    assert later == unregistered
    place.parent.mkdir()
    place.write_text(json.dumps(later))
    switch.on = True
    sending._outbox.unsent.release()
    assert leftovers.send_left(folder)[0].problem is None
    registered = {**unregistered, "version": 1, "uri": f"models:/cxr-{run}/1"}
    assert json.loads(place.read_text()) == registered
    sending.open_outbox(folder, name="effusion", command="kedro send", version_file=str(place))
    assert sending.register(tmp_path / "classifier", **content) == registered
    assert seen == ["weights"]


@pytest.mark.parametrize(("trained", "more"), [("c", {}), ("b", {"packaged_commit": "c"})])
def test_a_version_says_with_which_code_it_is_packaged_if_not_that_of_its_training(monkeypatch, trained, more) -> None:
    monkeypatch.setattr(operations, "git_commit", lambda: "c")
    tags = {"git_commit": trained, "digest": "d"}
    assert operations._with_sender(tags) == tags | more


@pytest.mark.parametrize("held", ['{"run_id": "newer", "version": 8}', "", "[]", None])
def test_a_version_that_is_sent_late_leaves_the_file_of_a_newer_run(run, switch, folder, tmp_path, held) -> None:
    place = tmp_path / "model_version.json"
    if held is not None:
        place.write_text(held)
    leftovers._write_version(place, {"run_id": run, "version": 9})
    assert (place.read_text() if place.exists() else None) == held


@pytest.mark.parametrize(
    ("error", "away"),
    [
        (MlflowException(AWAY), True),
        (MlflowException("API request to endpoint /x failed with error code 502 != 200", error_code=1), True),
        (server.RestException({"error_code": "INTERNAL_ERROR", "message": "x"}), True),
        (server.RestException({"error_code": "PERMISSION_DENIED", "message": "x"}), True),
        (server.RestException({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "x"}), False),
        (server.RestException({"error_code": "INVALID_PARAMETER_VALUE", "message": "x"}), False),
        (MlflowException("no such model"), False),
        (ValueError("x"), False),
    ],
)
def test_a_server_that_is_away_is_told_from_one_that_refuses(error, away) -> None:
    assert server.is_away(error) is away
    assert (server.why_away(error) is not None) is away


def test_the_reason_is_that_of_the_server_and_not_what_went_wrong_before() -> None:
    try:
        raise ValueError("the run has failed")
    except ValueError:
        try:
            try:
                raise ConnectionRefusedError(111, "Connection refused")
            except OSError as refused:
                raise MlflowException("API request to http://user:secret@host failed") from refused
        except MlflowException as error:
            assert server.reason(error) == "[Errno 111] Connection refused"
