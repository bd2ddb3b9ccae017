"""Commands that are disturbed and typed again.

They are killed at a random moment or before a change on disk, run two at once, or lose the room on the disk or MLflow.
"""

import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from options import FIRST, KEPT, KILLS, SEED
from project_runs import SCENARIOS, FaultyProcess, Project, command

pytestmark = pytest.mark.faults

OTHER_SEED = command("effusion", 24, "effusion.training.seed=5")
# What a command says that was killed when its work was done.
DONE = {"rollback": "version 2 was rolled back on"}
PAIRS = {
    "two trainings": ("empty", SCENARIOS["effusion"][1], OTHER_SEED),
    "scoring and training": ("trained", SCENARIOS["scoring"][1], OTHER_SEED),
    "retraining and training": ("champion", SCENARIOS["retraining"][1], OTHER_SEED),
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, new_project: Callable[[Path], Path]) -> Project:
    return Project(tmp_path_factory.mktemp("commands"), new_project)


@pytest.mark.parametrize("number", range(FIRST, FIRST + KILLS))
def test_a_killed_command_ends_as_an_undisturbed_one_when_it_is_typed_again(project: Project, number: int) -> None:
    name = list(SCENARIOS)[number % len(SCENARIOS)]
    state, arguments = SCENARIOS[name]
    expected, n_changes, seconds = project.undisturbed(name)
    project.take(state)
    rng = random.Random(f"{SEED}-{number}")
    case = f"kill {number}, {name}"
    for _ in range(rng.choice((1, 2, 3, 4))):
        if rng.random() < 0.5:
            change = rng.randint(1, n_changes)
            process = project.start(arguments, n=change)
            case += f", before change {change} of {n_changes}: status {process.wait()}"
        else:
            moment = rng.uniform(0, seconds)
            process = project.start(arguments)
            process.kill_after(moment)
            case += f", after {moment:.1f} of {seconds:.1f} s: status {process.poll()}"
        assert process.descendants() == [], case
        if process.poll() == 0:
            break  # a second rollback would be another rollback
    started = time.monotonic()
    try:
        if process.poll() != 0:
            project.finish(arguments, done=DONE.get(name))
        assert not (found := project.differences(expected)), found
    except BaseException as error:
        kept = KEPT / f"kill-{SEED}-{number}"
        shutil.copytree(project.folder, kept, ignore=shutil.ignore_patterns("src"), dirs_exist_ok=True)
        print(f"\n{case}: FAULT, see {kept}: {error}")
        raise
    print(f"\n{case}: finished in {time.monotonic() - started:.0f} s")


@pytest.mark.parametrize("number", range(FIRST, FIRST + max(1, KILLS // 4)))
def test_of_two_commands_at_once_one_is_refused(project: Project, number: int) -> None:
    """Each registered version is that of one finished training, whose seed and AUC its MLflow run has."""
    name = list(PAIRS)[number % len(PAIRS)]
    state, *commands = PAIRS[name]
    project.take(state)
    rng = random.Random(f"{SEED}-{number}")
    rng.shuffle(commands)
    gap = rng.choice((0, rng.uniform(0, 10)))
    processes = []
    for order, arguments in enumerate(commands):
        time.sleep(gap * order)
        processes.append(project.start(arguments, name=f"run-{order}"))
    statuses = [process.wait() for process in processes]
    print(f"\npair {number}, {name}, {gap:.1f} s apart: statuses {statuses}")
    assert set(statuses) in ({0}, {0, 75}), [process.printed()[-2000:] for process in processes]
    assert not any("Traceback" in process.printed() for process in processes)
    for arguments, status in zip(commands, statuses, strict=True):
        if status:
            project.finish(arguments)
    assert project.query("SELECT name FROM runs WHERE status = 'RUNNING'") == []
    trained = project.query(
        "SELECT tags.value, params.value, metrics.value FROM model_versions AS versions"
        " JOIN model_version_tags AS tags ON tags.key = 'digest' AND tags.version = versions.version"
        " JOIN params ON params.run_uuid = versions.run_id AND params.key = 'training.seed'"
        " JOIN latest_metrics AS metrics ON metrics.run_uuid = versions.run_id AND metrics.key = 'test/auc'"
    )
    assert len(trained) == len(project.query("SELECT version FROM model_versions"))
    # The same network has the same seed and AUC, whichever run registered it.
    assert len(set(trained)) == len({digest for digest, _, _ in trained})


@pytest.mark.skipif(KILLS < 8, reason="it takes minutes; make test-faults KILLS=8 or more runs it")
@pytest.mark.parametrize("number", range(FIRST, FIRST + KILLS // 4))
def test_a_server_that_goes_away_ends_the_run_with_status_69(
    project: Project, number: int, mlflow_server: Any, empty_database: Path
) -> None:
    expected, _, seconds = project.undisturbed("effusion")
    project.take("empty")
    mlflow_server.empty(empty_database)
    moment = random.Random(f"{SEED}-{number}").uniform(0, seconds)
    arguments = SCENARIOS["effusion"][1]
    process = project.start(arguments, MLFLOW_TRACKING_URI=mlflow_server.uri)
    process._process.join(moment)
    mlflow_server.kill()
    status = process.wait()
    mlflow_server.start()
    print(f"\nserver {number}, away after {moment:.1f} of {seconds:.1f} s: status {status}")
    assert status in (0, 69), process.printed()[-3000:]
    assert "Traceback" not in process.printed()
    project.finish(arguments, MLFLOW_TRACKING_URI=mlflow_server.uri)
    with mlflow_server.database() as database:
        versions = database.execute("SELECT DISTINCT value FROM model_version_tags WHERE key = 'digest'").fetchall()
        running = database.execute("SELECT name FROM runs WHERE status = 'RUNNING'").fetchall()
    assert (versions, running) == (expected["versions"], [])


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A small file system of its own."""
    folder = tmp_path_factory.mktemp("disk")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root can mount a small disk")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture(scope="module")
def on_disk(disk: Path, tmp_path_factory: pytest.TempPathFactory, new_project: Callable[[Path], Path]) -> Project:
    return Project(tmp_path_factory.mktemp("disks"), new_project, disk / "project")


def fill(disk: Path) -> None:
    """Fill the disk to the last byte."""
    for size in (2**20, 2**12, 1):
        try:
            descriptor = os.open(disk / "filler", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            while os.write(descriptor, bytes(size)):
                pass
        except OSError:
            os.close(descriptor)


def explanation(process: FaultyProcess) -> str:
    """Return the one message of a command that failed."""
    printed = process.printed()
    assert "Traceback" not in printed, printed[-3000:]
    errors = [line for line in printed.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1, printed[-3000:]
    return errors[0]


@pytest.mark.parametrize("number", range(FIRST, FIRST + max(1, KILLS // 4)))
def test_a_run_on_a_full_disk_says_so_and_resumes_with_room(on_disk: Project, disk: Path, number: int) -> None:
    name = ("effusion", "scoring", "first retraining")[number % 3]
    state, arguments = SCENARIOS[name]
    expected, n_changes, _ = on_disk.undisturbed(name)
    on_disk.take(state)
    change = random.Random(f"{SEED}-{number}").randint(1, n_changes)
    process = on_disk.start(arguments, n=change, fault=partial(fill, disk))
    status = process.wait()
    (disk / "filler").unlink(missing_ok=True)
    case = f"disk {number}, {name}, full before change {change} of {n_changes}: status {status}"
    print(f"\n{case}, {explanation(process) if status else 'finished'}")
    assert status in (0, 1, 69), case
    if status:
        on_disk.finish(arguments)
    assert not (found := on_disk.differences(expected)), found


def test_a_run_on_a_read_only_disk_says_so(on_disk: Project, disk: Path) -> None:
    on_disk.take("empty")
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    process = on_disk.start(SCENARIOS["effusion"][1])
    status = process.wait()
    subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    assert status == 1, process.printed()
    assert "read-only" in explanation(process).lower()
