"""Disks that become full or read-only at a change on disk, and the same command with room again."""

import os
import random
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from options import FIRST, KILLS, SEED
from project_runs import SCENARIOS, FaultyProcess, Project

pytestmark = pytest.mark.faults


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
def project(disk: Path, tmp_path_factory: pytest.TempPathFactory, new_project: Callable[[Path], Path]) -> Project:
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
def test_a_run_on_a_full_disk_says_so_and_resumes_with_room(project: Project, disk: Path, number: int) -> None:
    name = ("effusion", "scoring", "first retraining")[number % 3]
    state, arguments = SCENARIOS[name]
    expected, n_changes, _ = project.undisturbed(name)
    project.take(state)
    change = random.Random(f"{SEED}-{number}").randint(1, n_changes)
    process = project.start(arguments, n=change, fault=partial(fill, disk))
    status = process.wait()
    (disk / "filler").unlink(missing_ok=True)
    case = f"disk {number}, {name}, full before change {change} of {n_changes}: status {status}"
    print(f"\n{case}, {explanation(process) if status else 'finished'}")
    assert status in (0, 1, 69), case
    if status:
        project.finish(arguments)
    assert not (found := project.differences(expected)), found


def test_a_run_on_a_read_only_disk_says_so(project: Project, disk: Path) -> None:
    project.take("empty")
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    process = project.start(SCENARIOS["effusion"][1])
    status = process.wait()
    subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    assert status == 1, process.printed()
    assert "read-only" in explanation(process).lower()
