"""Retraining in the demo environment: first version, no changes, new images, kill, lock, rollback, drift."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import mlflow
import pandas as pd
import psutil
import pytest
import yaml

from cxr_pipeline.data.phantoms import draw_patient

IMAGES = "effusion.sources.phantoms.n_patients={}"
SMALL = "effusion.training.epochs=2,effusion.resolution.size=48,effusion.evaluation.replicates=200"
MODEL = "cxr-effusion-demo"
# A network is not trained well by two epochs on a few phantoms, and intervals on so few test images are wide.
LENIENT = {"floors": dict.fromkeys(("auc", "sensitivity", "specificity")), "sensitivity_margin": 1, "auc_margin": 1}


def write_rule(folder: Path, **rule: Any) -> None:
    block = {"effusion": {"retraining": rule}}
    (folder / "conf" / "demo" / "parameters" / "retraining.yml").write_text(yaml.safe_dump(block))


def arguments(pipeline: str, *params: str) -> tuple[str, ...]:
    return ("run", "--env", "demo", f"--pipeline=effusion_{pipeline}", "--params", ",".join((SMALL, *params)))


def start(folder: Path, *params: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "kedro", *arguments("retraining", *params)]
    with (folder / "printed.txt").open("w") as printed:
        return subprocess.Popen(command, cwd=folder, stdout=printed, stderr=subprocess.STDOUT, text=True)


def wait_for(condition: Any, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)


def data(folder: Path) -> Path:
    return folder / "data" / "demo"


def holder(folder: Path) -> dict[str, Any]:
    record = data(folder) / "02_intermediate" / "effusion" / "run.json"
    return json.loads(record.read_text()) if record.exists() else {}


def aliases(folder: Path) -> dict[str, int]:
    """The aliases in MLflow, which the file must agree with."""
    numbers = json.loads((data(folder) / "06_models" / "effusion" / "aliases.json").read_text())
    in_mlflow = client(folder).get_registered_model(MODEL).aliases
    found = {name: int(version) for name, version in in_mlflow.items()}
    assert found == {name: number for name, number in numbers.items() if number}
    return found


def decisions(folder: Path) -> list[dict[str, Any]]:
    files = sorted((data(folder) / "08_reporting" / "effusion" / "decisions").glob("*.json"))
    assert all(file.with_suffix(".md").is_file() for file in files)
    return [json.loads(file.read_text()) for file in files]


def registry(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(data(folder) / "05_model_input" / "effusion" / "splits.parquet")


def client(folder: Path) -> mlflow.MlflowClient:
    return mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")


def runs(folder: Path) -> list[Any]:
    """The newest first."""
    experiment = client(folder).get_experiment_by_name(MODEL)
    assert experiment is not None
    return list(client(folder).search_runs([experiment.experiment_id], order_by=["attributes.start_time DESC"]))


def text(finished: "subprocess.CompletedProcess[str]") -> str:
    return re.sub(r"\s+", " ", finished.stdout + finished.stderr)


def succeeded(finished: "subprocess.CompletedProcess[str]") -> str:
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return text(finished)


@pytest.fixture(scope="module")
def first(tmp_path_factory, new_project, kedro) -> Path:
    """A project with a champion."""
    folder: Path = new_project(tmp_path_factory.mktemp("retraining") / "project")
    write_rule(folder, **LENIENT)
    printed = succeeded(kedro(folder, *arguments("retraining", IMAGES.format(40))))
    assert f"{MODEL} 1 is the new champion" in printed
    return folder


def test_the_first_version_is_promoted_on_its_floors(first: Path) -> None:
    assert aliases(first) == {"champion": 1, "reference": 1}
    (record,) = decisions(first)
    assert (record["promoted"], record["champion"], record["comparison"]) == (True, None, [])
    child, parent = runs(first)
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert child.info.run_id == record["challenger"]["run_id"]
    assert parent.data.tags["decision"] == "promoted"
    version = client(first).get_model_version(MODEL, "1")
    assert (version.tags["decision"], version.tags["decision_run"]) == ("promoted", parent.info.run_id)
    artifacts = [file.path for file in client(first).list_artifacts(parent.info.run_id, "decisions")]
    assert len(artifacts) == 2
    assert holder(first) == {}


@pytest.fixture(scope="module")
def skipped(first: Path, kedro) -> tuple[Path, str]:
    before = registry(first)
    printed = succeeded(kedro(first, *arguments("retraining", IMAGES.format(40))))
    pd.testing.assert_frame_equal(registry(first), before)
    return first, printed


def test_without_changes_it_ends_at_once(skipped) -> None:
    folder, printed = skipped
    assert (
        f"Nothing is new: the {len(registry(folder))} images are those of the champion, cxr-effusion-demo 1." in printed
    )
    run = runs(folder)[0]
    assert (run.data.tags["skipped"], run.info.status) == ("nothing new", "FINISHED")
    assert run.info.end_time - run.info.start_time < 20_000
    assert len(decisions(folder)) == 1
    assert aliases(folder) == {"champion": 1, "reference": 1}


@pytest.fixture(scope="module")
def second(skipped, kedro) -> dict[str, Any]:
    """More phantoms: a run that is killed during the training, a second one, and a third one while that is running."""
    folder = skipped[0]
    before = registry(folder)
    process = start(folder, IMAGES.format(60))
    outputs = data(folder) / "07_model_output" / "effusion" / "retraining"
    wait_for(lambda: len(list(outputs.glob("*/05_model_input/effusion/sampling_plan.parquet"))) == 2, process)
    offspring = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    _, alive = psutil.wait_procs(offspring, timeout=30)
    assert alive == []
    left = holder(folder)
    pd.testing.assert_frame_equal(registry(folder), before)
    again = start(folder, IMAGES.format(60))
    wait_for(lambda: holder(folder).get("pid") == again.pid, again)
    locked = kedro(folder, *arguments("retraining", IMAGES.format(60)))
    assert again.poll() is None
    assert again.wait(timeout=300) == 0, (folder / "printed.txt").read_text()
    printed = re.sub(r"\s+", " ", (folder / "printed.txt").read_text())
    killed = process.pid
    return {"folder": folder, "before": before, "left": left, "killed": killed, "printed": printed} | {
        "again": again.pid,
        "locked": locked,
    }


def test_the_lock_of_a_killed_run_is_taken_over(second) -> None:
    assert second["left"]["pid"] == second["killed"]
    assert (
        f"An earlier run did not end properly (effusion_retraining, process {second['killed']} on" in second["printed"]
    )
    assert holder(second["folder"]) == {}


def test_a_second_run_names_the_first_and_exits_without_changes(second) -> None:
    locked = second["locked"]
    assert locked.returncode == os.EX_TEMPFAIL == 75
    assert f"effusion is already running (effusion_retraining, process {second['again']} on" in text(locked)
    assert "Traceback" not in locked.stdout + locked.stderr


def test_a_challenger_is_trained_and_compared_with_the_champion_on_the_same_images(second) -> None:
    folder = second["folder"]
    assert "Since the champion, cxr-effusion-demo 1: " in second["printed"]
    # Too few new images to check: the next ones are compared with version 1 again.
    assert aliases(folder) == {"champion": 2, "previous": 1, "reference": 1}
    record = decisions(folder)[-1]
    assert (record["promoted"], record["champion"]["version"], record["challenger"]["version"]) == (True, 1, 2)
    assert record["data_changes"]["new"] > 0
    assert record["drift"]["verdict"] == "unknown"
    assert "cannot be tested with 20 new images" in record["drift"]["sentence"]
    assert client(folder).get_model_version(MODEL, "2").tags["drift"] == "unknown"
    scores = pd.read_parquet(data(folder) / "07_model_output" / "effusion" / "retraining" / "champion_scores.parquet")
    assert record["compared_on"] == {
        "n_images": len(scores),
        "n_patients": scores["patient_id"].nunique(),
        "n_left_out": 0,
    }
    difference = record["figures"]["differences"]["auc"]["value"]
    sides = (record["figures"][side]["auc"]["value"] for side in ("challenger", "champion"))
    assert difference == pytest.approx(next(sides) - next(sides))


def test_the_outputs_of_the_earlier_challenger_are_removed(second) -> None:
    retraining = data(second["folder"]) / "07_model_output" / "effusion" / "retraining"
    (folder,) = (path for path in retraining.iterdir() if path.is_dir())
    assert decisions(second["folder"])[1]["trained_by"].startswith(folder.name)


def test_no_patient_changes_its_split_and_none_is_both_trained_and_tested_on(second) -> None:
    folder, before = second["folder"], second["before"]
    splits = registry(folder)
    assert splits["patient_id"].nunique() == 60
    assert not splits.drop_duplicates(["patient_id", "split"])["patient_id"].duplicated().any()
    moved = before.merge(splits, on=["source", "image"], how="left", suffixes=("", "_now"))
    assert (moved["split"] == moved["split_now"]).all()
    learned = before.loc[before["split"] != "test", "patient_id"]
    scores = pd.read_parquet(data(folder) / "07_model_output" / "effusion" / "retraining" / "champion_scores.parquet")
    assert not scores["patient_id"].isin(learned).any()


def test_a_rollback_restores_the_previous_champion_once(second, kedro) -> None:
    folder = second["folder"]
    assert f"{MODEL} 1 is the champion again; version 2 is no longer in use." in succeeded(
        kedro(folder, *arguments("rollback"))
    )
    assert aliases(folder) == {"champion": 1, "reference": 1}
    assert "rolled_back" in client(folder).get_model_version(MODEL, "2").tags
    assert runs(folder)[0].data.tags["champion"] == f"{MODEL} 1"
    further = kedro(folder, *arguments("rollback"))
    assert further.returncode == 1
    assert "There is no version to roll back to: the champion of cxr-effusion-demo is version 1" in text(further)
    assert "Traceback" not in text(further)


def test_a_version_that_was_rolled_back_is_not_promoted_again(second, kedro) -> None:
    folder, n_decisions = second["folder"], len(decisions(second["folder"]))
    printed = succeeded(kedro(folder, *arguments("retraining", IMAGES.format(60))))
    assert "Nothing is new: cxr-effusion-demo 2 was trained on these" in printed
    assert "was rolled back." in printed
    assert len(decisions(folder)) == n_decisions
    assert aliases(folder)["champion"] == 1


def test_a_forced_run_applies_another_rule_without_training(second, kedro) -> None:
    folder = second["folder"]
    n_versions = len(client(folder).search_model_versions(f"name='{MODEL}'"))
    write_rule(folder, **{**LENIENT, "floors": {"auc": 1.0}})
    printed = succeeded(kedro(folder, *arguments("retraining", IMAGES.format(60), "effusion.retraining.force=true")))
    assert "Training the challenger" not in printed
    assert f"{MODEL} 2 is not promoted. AUC" in printed
    assert aliases(folder) == {"champion": 1, "challenger": 2, "reference": 1}
    record, tags = decisions(folder)[-1], client(folder).get_model_version(MODEL, "2").tags
    assert not record["promoted"]
    assert tags["decision"] == "not promoted"
    assert "does not reach its floor of 1.000" in tags["decision_reasons"]
    assert len(client(folder).search_model_versions(f"name='{MODEL}'")) == n_versions
    child = client(folder).get_run(record["challenger"]["run_id"])
    assert child.data.tags["mlflow.parentRunId"] == tags["decision_run"]


@pytest.fixture(scope="module")
def stopped(second, kedro) -> dict[str, Any]:
    """Negatives arrive from another source, as from a machine that is set up wrongly."""
    folder = second["folder"]
    for patient in range(1001, 1041):
        image = next(draw_patient(patient, size=96, prevalence={"Effusion": 0.5}, seed=7))
        path = (
            data(folder) / "01_raw" / "negatives" / ("effusion" if image.labels else "nofinding") / f"{patient}_0.png"
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), 255 - image.pixels)
    source = {"layout": "class_folders", "path": "negatives", "patient_id": r"^(\d+)_"}
    file = folder / "conf" / "demo" / "parameters" / "negatives.yml"
    file.write_text(yaml.safe_dump({"effusion": {"sources": {"negatives": source}}}))
    before = {"aliases": aliases(folder), "registry": registry(folder), "decisions": decisions(folder)}
    before["versions"] = client(folder).search_model_versions(f"name='{MODEL}'")
    return {"folder": folder, "before": before, "ended": kedro(folder, *arguments("retraining", IMAGES.format(40)))}


def test_drift_stops_it_without_changes(stopped) -> None:
    folder, before = stopped["folder"], stopped["before"]
    assert stopped["ended"].returncode == 1
    assert "Traceback" not in text(stopped["ended"])
    assert "Training the challenger" not in text(stopped["ended"])
    assert aliases(folder) == before["aliases"]
    pd.testing.assert_frame_equal(registry(folder), before["registry"])
    assert len(client(folder).search_model_versions(f"name='{MODEL}'")) == len(before["versions"])


def test_a_stop_writes_a_record_and_names_it(stopped) -> None:
    folder = stopped["folder"]
    assert len(decisions(folder)) == len(stopped["before"]["decisions"]) + 1
    record = decisions(folder)[-1]
    assert (record["decision"], record["promoted"], record["challenger"]) == ("stopped", False, None)
    assert (record["champion"]["version"], record["drift"]["verdict"]) == (1, "refuse")
    assert record["drift"]["new_images"]["looked_at"] >= 40
    said = text(stopped["ended"])
    for part in (
        "differ from those of cxr-effusion-demo 1. Drift in pixels (",
        "--params effusion.retraining.on_drift=warn",
    ):
        assert part in said
    named = re.search(r"The record is (\S+\.md) ", said)
    assert named is not None
    assert "# cxr-effusion-demo: stopped" in (data(folder) / "08_reporting" / "effusion" / named[1]).read_text()
    run = runs(folder)[0]
    assert (run.info.status, run.data.tags["decision"], run.data.tags["drift"]) == ("FAILED", "stopped", "refuse")
    assert run.data.tags["decision_reasons"].startswith("The new images (")
    kept = {Path(file.path).suffix for file in client(folder).list_artifacts(run.info.run_id, "decisions")}
    assert kept == {".md", ".json", ".html"}
    assert holder(folder) == {}
