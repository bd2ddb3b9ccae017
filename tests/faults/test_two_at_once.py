"""Two commands at once, and a server of MLflow that goes away."""

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from options import FIRST, KILLS, SEED
from project_runs import SCENARIOS, Project, command

pytestmark = pytest.mark.faults

OTHER_SEED = command("effusion", 24, "effusion.training.seed=5")
PAIRS = {
    "two trainings": ("empty", SCENARIOS["effusion"][1], OTHER_SEED),
    "scoring and training": ("trained", SCENARIOS["scoring"][1], OTHER_SEED),
    "retraining and training": ("champion", SCENARIOS["retraining"][1], OTHER_SEED),
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, new_project: Callable[[Path], Path]) -> Project:
    return Project(tmp_path_factory.mktemp("two"), new_project)


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
