"""Commands that are killed at a random moment, or before a change on disk, and typed again."""

import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from options import FIRST, KEPT, KILLS, SEED
from project_runs import SCENARIOS, Project, differences

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, new_project: Callable[[Path], Path]) -> Project:
    return Project(tmp_path_factory.mktemp("kills"), new_project)


@pytest.mark.parametrize("number", range(FIRST, FIRST + KILLS))
def test_a_killed_command_ends_as_the_undisturbed_one_when_it_is_typed_again(project: Project, number: int) -> None:
    name = list(SCENARIOS)[number % len(SCENARIOS)]
    rng = random.Random(f"{SEED}-{number}")
    arguments = SCENARIOS[name].arguments
    expected, n_changes, seconds = project.reference(name)
    project.take(SCENARIOS[name].state)
    kills = []
    for _ in range(rng.choice((1, 1, 1, 2))):
        if rng.random() < 0.5:
            change = rng.randint(1, n_changes)
            process = project.start(arguments, kill_before=change)
            status = process.wait()
            kills.append(f"before change {change} of {n_changes}: {status}")
        else:
            moment = rng.uniform(0, seconds)
            process = project.start(arguments)
            process._process.join(moment)
            process.kill()
            kills.append(f"after {moment:.1f} of {seconds:.1f} s: {process.poll()}")
        assert process.left_over() == [], kills
    started = time.monotonic()
    try:
        project.finish(arguments)
        assert not (found := differences(project.facts(), expected)), found
    except BaseException as error:
        shutil.rmtree(KEPT / f"kill-{SEED}-{number}", ignore_errors=True)
        shutil.copytree(project.folder, KEPT / f"kill-{SEED}-{number}", ignore=shutil.ignore_patterns("src"))
        print(f"\nkill {number}, {name}, {', '.join(kills)}: FAULT {error}")
        raise
    print(f"\nkill {number}, {name}, {', '.join(kills)}: finished in {time.monotonic() - started:.0f} s")
