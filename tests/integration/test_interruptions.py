"""Simultaneous runs, signals, and partial runs in the demo environment."""

import signal

import yaml
from demo_projects import arguments, data, holder, runs, stop, versions, wait_for, words

SMALL = (
    "effusion.sources.phantoms.n_patients=40,effusion.training.epochs=40,effusion.training.patience=40,"
    "effusion.resolution.size=32,effusion.evaluation.replicates=100"
)
RUN = arguments("effusion", SMALL)


def is_training(folder):
    """Return whether the lock is held, a checkpoint exists, and MLflow shows the run as running."""
    checkpoints = data(folder) / "06_models" / "checkpoints"
    return holder(folder) and list(checkpoints.rglob("[!.]*.npz")) and runs(folder)[0].info.status == "RUNNING"


def test_a_second_run_is_refused_and_a_stopped_run_is_marked_as_killed(project, start_kedro):
    for signum, status in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        first = start_kedro(project, *RUN)
        wait_for(lambda: is_training(project), first)
        n_runs, held = len(runs(project)), holder(project)
        assert (held["pid"], held["command"]) == (first.pid, "effusion")
        if signum == signal.SIGTERM:
            second = start_kedro(project, *arguments("effusion_sanity", SMALL))
            assert second.wait() == 75
            message = words(second.printed())
            assert f"effusion is already running (effusion, process {first.pid}" in message
            assert f"since {held['since']}" in message
            assert "Traceback" not in message
            assert len(runs(project)) == n_runs
        assert stop(first, signum) == status, first.printed()
        assert not holder(project)
        assert [run.info.status for run in runs(project)] == ["KILLED"] * n_runs
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
    message = words(mixed.stdout)
    assert "effusion.model was made from another version of effusion.enhanced_images" in message
    assert "Run the whole pipeline: kedro run --env demo --pipeline=effusion" in message
    assert [int(version.version) for version in versions(project)] == [1]


def test_of_two_simultaneous_runs_one_registers_its_model(project, start_kedro):
    small = SMALL.replace("epochs=40", "epochs=2")
    commands = {seed: arguments("effusion", small, f"effusion.training.seed={seed}") for seed in ("1", "2")}
    both = {seed: start_kedro(project, *command) for seed, command in commands.items()}
    assert sorted(process.wait() for process in both.values()) == [0, 75]
    (tracked,) = runs(project)
    assert tracked.info.status == "FINISHED"
    assert both[tracked.data.params["training.seed"]].poll() == 0
