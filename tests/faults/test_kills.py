"""Commands that are killed at a random moment, or before a change on disk, and typed again."""

import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from options import FIRST, KEPT, KILLS, SEED
from project_runs import SCENARIOS, Project

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, new_project: Callable[[Path], Path]) -> Project:
    return Project(tmp_path_factory.mktemp("kills"), new_project)


@pytest.mark.parametrize("number", range(FIRST, FIRST + KILLS))
def test_a_killed_command_ends_as_an_undisturbed_one_when_it_is_typed_again(project: Project, number: int) -> None:
    name = list(SCENARIOS)[number % len(SCENARIOS)]
    state, arguments = SCENARIOS[name]
    expected, n_changes, seconds = project.undisturbed(name)
    project.take(state)
    rng = random.Random(f"{SEED}-{number}")
    case = f"kill {number}, {name}"
    for _ in range(rng.choice((1, 1, 1, 2))):
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
    started = time.monotonic()
    try:
        # A command that ended before the kill is not repeated: a second rollback would be another rollback.
        if process.poll() != 0:
            project.finish(arguments)
        assert not (found := project.differences(expected)), found
    except BaseException as error:
        kept = KEPT / f"kill-{SEED}-{number}"
        shutil.copytree(project.folder, kept, ignore=shutil.ignore_patterns("src"), dirs_exist_ok=True)
        print(f"\n{case}: FAULT, see {kept}: {error}")
        raise
    print(f"\n{case}: finished in {time.monotonic() - started:.0f} s")
