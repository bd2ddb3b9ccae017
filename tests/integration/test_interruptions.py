"""Simultaneous runs, signals, and partial runs in the demo environment."""

import json
import signal
import time

import mlflow
import psutil
import yaml

SMALL = (
    "effusion.sources.phantoms.n_patients=40,effusion.training.epochs=40,effusion.training.patience=40,"
    "effusion.resolution.size=32,effusion.evaluation.replicates=100"
)
RUN = ("run", "--env", "demo", "--pipeline=effusion", "--params", SMALL)


def runs(folder):
    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return client.search_runs(experiments, order_by=["attributes.start_time"])


def holder(folder):
    record = folder / "data/demo/02_intermediate/effusion/run.json"
    return json.loads(record.read_text()) if record.exists() else {}


def wait_for_training(folder, process):
    """Wait until the process holds the lock, a checkpoint exists, and MLflow shows the run as running."""
    deadline = time.monotonic() + 300
    checkpoints = folder / "data/demo/06_models/checkpoints"
    while not holder(folder) or not list(checkpoints.rglob("[!.]*.npz")) or runs(folder)[-1].info.status != "RUNNING":
        assert process.poll() is None, process.printed()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_second_run_is_refused_and_a_stopped_run_is_marked_as_killed(project, start_kedro):
    for signum, status in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        first = start_kedro(project, *RUN)
        wait_for_training(project, first)
        n_runs, held = len(runs(project)), holder(project)
        assert (held["pid"], held["command"]) == (first.pid, "effusion")
        if signum == signal.SIGTERM:
            second = start_kedro(project, "run", "--env", "demo", "--pipeline=effusion_sanity", "--params", SMALL)
            assert second.wait() == 75
            message = " ".join(second.printed().split())
            assert f"effusion is already running (effusion, process {first.pid}" in message
            assert f"since {held['since']}" in message
            assert "Traceback" not in message
            assert len(runs(project)) == n_runs
        children = psutil.Process(first.pid).children(recursive=True)
        first.send_signal(signum)
        assert first.wait() == status
        assert not holder(project)
        assert [run.info.status for run in runs(project)] == ["KILLED"] * n_runs
        assert psutil.wait_procs(children, timeout=30)[1] == []
        assert "Traceback" not in first.printed()


def test_a_model_is_not_registered_with_the_preparation_of_another_run(demo_copy, kedro):
    project, run, _ = demo_copy
    override = project / "conf/demo/parameters/override.yml"
    override.write_text(yaml.safe_dump({"effusion": {"morphology": {"steps": [{"operation": "clahe", "tiles": 4}]}}}))
    prepared = kedro(project, *run, "--to-nodes=effusion.morphology.enhance_images")
    assert prepared.returncode == 0, prepared.stdout
    override.unlink()
    mixed = kedro(project, *run, "--from-nodes=effusion.thresholds.score_validation")
    assert mixed.returncode == 1
    message = " ".join(mixed.stdout.split())
    assert "effusion.model was made from another version of effusion.enhanced_images" in message
    assert "Run the whole pipeline: kedro run --env demo --pipeline=effusion" in message
    client = mlflow.MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    assert [int(version.version) for version in client.search_model_versions("name='cxr-effusion-demo'")] == [1]


def test_of_two_simultaneous_runs_one_registers_its_model(project, start_kedro):
    small = SMALL.replace("epochs=40", "epochs=2")
    both = {seed: start_kedro(project, *RUN[:-1], f"{small},effusion.training.seed={seed}") for seed in ("1", "2")}
    assert sorted(process.wait() for process in both.values()) == [0, 75]
    (tracked,) = runs(project)
    assert tracked.info.status == "FINISHED"
    assert both[tracked.data.params["training.seed"]].poll() == 0
