"""Retraining in the demo environment: first version, no changes, new images, kill, rollback, drift."""

import json
import re
import signal
from pathlib import Path

import cv2
import demo_projects
import pandas as pd
import pytest
import yaml
from demo_projects import (
    MODEL,
    SMALL,
    client,
    data,
    holder,
    reporting,
    runs,
    stop,
    succeeded,
    versions,
    wait_for,
    words,
)

from cxr_pipeline.data.phantoms import draw_patient

IMAGES = "effusion.sources.phantoms.n_patients={}"
# Two epochs on a few phantoms give a poor network and wide intervals.
LENIENT = {"floors": dict.fromkeys(("auc", "sensitivity", "specificity")), "sensitivity_margin": 1, "auc_margin": 1}


def write_rule(folder, **rule):
    block = {"effusion": {"retraining": rule}}
    (folder / "conf" / "demo" / "parameters" / "retraining.yml").write_text(yaml.safe_dump(block))


def arguments(pipeline, *params):
    return demo_projects.arguments(f"effusion_{pipeline}", SMALL, *params)


def aliases(folder):
    """Return the aliases in MLflow; the file must agree with them."""
    numbers = json.loads((data(folder) / "06_models" / "effusion" / "aliases.json").read_text())
    in_mlflow = client(folder).get_registered_model(MODEL).aliases
    versions = {name: int(version) for name, version in in_mlflow.items()}
    assert versions == {name: number for name, number in numbers.items() if number}
    return versions


def decisions(folder):
    files = sorted((reporting(folder) / "decisions").glob("*.json"))
    assert all(file.with_suffix(".md").is_file() for file in files)
    return [json.loads(file.read_text()) for file in files]


def challengers(folder):
    return data(folder) / "07_model_output" / "effusion" / "retraining"


def registry(folder):
    return pd.read_parquet(data(folder) / "05_model_input" / "effusion" / "splits.parquet")


@pytest.fixture(scope="module")
def first(tmp_path_factory, new_project, kedro):
    """A project with a champion."""
    folder = new_project(tmp_path_factory.mktemp("retraining") / "project")
    write_rule(folder, **LENIENT)
    printed = succeeded(kedro(folder, *arguments("retraining", IMAGES.format(40))))
    assert f"{MODEL} 1 is the new champion" in printed
    return folder


def test_the_first_version_is_promoted_if_it_reaches_its_floors(first):
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
def skipped(first, kedro):
    before = registry(first)
    printed = succeeded(kedro(first, *arguments("retraining", IMAGES.format(40))))
    pd.testing.assert_frame_equal(registry(first), before)
    return first, printed


def test_a_retraining_without_changes_ends_at_once(skipped):
    folder, printed = skipped
    n_images = len(registry(folder))
    assert f"Nothing is new: the {n_images} images are those of the champion, cxr-effusion-demo 1." in printed
    run = runs(folder)[0]
    assert (run.data.tags["skipped"], run.info.status) == ("nothing new", "FINISHED")
    assert run.info.end_time - run.info.start_time < 20_000
    assert len(decisions(folder)) == 1
    assert aliases(folder) == {"champion": 1, "reference": 1}


@pytest.fixture(scope="module")
def second(skipped, start_kedro, kedro):
    """With more phantoms: a run killed during training, and a second one."""
    folder = skipped[0]
    before = registry(folder)
    command = arguments("retraining", IMAGES.format(60))
    process = start_kedro(folder, *command)
    outputs = challengers(folder)
    wait_for(lambda: len(list(outputs.glob("*/05_model_input/effusion/sampling_plan.parquet"))) == 2, process)
    stop(process, signal.SIGKILL)
    assert holder(folder)["pid"] == process.pid
    pd.testing.assert_frame_equal(registry(folder), before)
    return {"folder": folder, "before": before, "killed": process.pid, "printed": succeeded(kedro(folder, *command))}


def test_after_a_kill_a_challenger_is_trained_and_compared_with_the_champion_on_the_same_images(second):
    folder = second["folder"]
    message = f"An earlier run did not end properly (effusion_retraining, process {second['killed']} on"
    assert message in second["printed"]
    assert holder(folder) == {}
    assert "Since the champion, cxr-effusion-demo 1: " in second["printed"]
    # Too few new images for a drift test, so that version 1 stays the reference.
    assert aliases(folder) == {"champion": 2, "previous": 1, "reference": 1}
    record = decisions(folder)[-1]
    assert (record["promoted"], record["champion"]["version"], record["challenger"]["version"]) == (True, 1, 2)
    assert record["data_changes"]["new"] > 0
    assert record["drift"]["verdict"] == "unknown"
    assert "cannot be tested with 20 new images" in record["drift"]["sentence"]
    assert client(folder).get_model_version(MODEL, "2").tags["drift"] == "unknown"
    scores = pd.read_parquet(challengers(folder) / "champion_scores.parquet")
    n_patients = scores["patient_id"].nunique()
    assert record["compared_on"] == {"n_images": len(scores), "n_patients": n_patients, "n_left_out": 0}
    # The outputs of the earlier challenger are removed.
    (challenger,) = (path for path in challengers(folder).iterdir() if path.is_dir())
    assert record["trained_by"].startswith(challenger.name)
    auc = {name: record["figures"][name]["auc"]["value"] for name in ("challenger", "champion", "differences")}
    assert auc["differences"] == pytest.approx(auc["challenger"] - auc["champion"])


def test_no_patient_changes_its_split(second):
    folder, before = second["folder"], second["before"]
    splits = registry(folder)
    assert splits["patient_id"].nunique() == 60
    assert not splits.drop_duplicates(["patient_id", "split"])["patient_id"].duplicated().any()
    moved = before.merge(splits, on=["source", "image"], how="left", suffixes=("", "_now"))
    assert (moved["split"] == moved["split_now"]).all()
    seen = before.loc[before["split"] != "test", "patient_id"]
    scores = pd.read_parquet(challengers(folder) / "champion_scores.parquet")
    assert not scores["patient_id"].isin(seen).any()


def test_a_rollback_restores_the_previous_champion(second, kedro):
    folder = second["folder"]
    assert f"{MODEL} 1 is the champion again; version 2 is no longer in use." in succeeded(
        kedro(folder, *arguments("rollback"))
    )
    assert aliases(folder) == {"champion": 1, "reference": 1}
    assert "rolled_back" in client(folder).get_model_version(MODEL, "2").tags
    assert runs(folder)[0].data.tags["champion"] == f"{MODEL} 1"


def test_a_forced_run_applies_another_rule_without_training(second, kedro):
    folder = second["folder"]
    n_versions = len(versions(folder))
    write_rule(folder, **{**LENIENT, "floors": {"auc": 1.0}})
    printed = succeeded(kedro(folder, *arguments("retraining", IMAGES.format(60), "effusion.retraining.force=true")))
    assert "Training the challenger" not in printed
    assert f"{MODEL} 2 is not promoted. AUC" in printed
    assert aliases(folder) == {"champion": 1, "challenger": 2, "reference": 1}
    record, tags = decisions(folder)[-1], client(folder).get_model_version(MODEL, "2").tags
    assert not record["promoted"]
    assert tags["decision"] == "not promoted"
    assert "does not reach its floor of 1.000" in tags["decision_reasons"]
    assert len(versions(folder)) == n_versions
    child = client(folder).get_run(record["challenger"]["run_id"])
    assert child.data.tags["mlflow.parentRunId"] == tags["decision_run"]


def test_drift_stops_a_retraining_which_writes_a_record_and_changes_nothing_else(second, kedro):
    """Inverted images arrive from another source, as from a misconfigured X-ray machine."""
    folder = second["folder"]
    for patient in range(1001, 1041):
        image = next(draw_patient(patient, size=96, prevalence={"Effusion": 0.5}, seed=7))
        label = "effusion" if image.labels else "nofinding"
        path = data(folder) / "01_raw" / "negatives" / label / f"{patient}_0.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), 255 - image.pixels)
    source = {"layout": "class_folders", "path": "negatives", "patient_id": r"^(\d+)_"}
    parameters = folder / "conf" / "demo" / "parameters" / "negatives.yml"
    parameters.write_text(yaml.safe_dump({"effusion": {"sources": {"negatives": source}}}))
    before = registry(folder)
    n_versions, n_decisions, named = len(versions(folder)), len(decisions(folder)), aliases(folder)

    ended = kedro(folder, *arguments("retraining", IMAGES.format(40)))

    printed = words(ended.stdout)
    assert ended.returncode == 1
    assert "Traceback" not in printed
    assert "Training the challenger" not in printed
    assert aliases(folder) == named
    pd.testing.assert_frame_equal(registry(folder), before)
    assert (len(versions(folder)), len(decisions(folder))) == (n_versions, n_decisions + 1)
    record = decisions(folder)[-1]
    assert (record["decision"], record["promoted"], record["challenger"]) == ("stopped", False, None)
    assert (record["champion"]["version"], record["drift"]["verdict"]) == (1, "refuse")
    assert record["drift"]["new_images"]["looked_at"] >= 40
    assert "differ from those of cxr-effusion-demo 1. Drift in pixels (" in printed
    assert "--params effusion.retraining.on_drift=warn" in printed
    file = re.search(r"See the record (\S+\.md) in", printed)
    assert "# cxr-effusion-demo: stopped" in (reporting(folder) / file[1]).read_text()
    run = runs(folder)[0]
    assert (run.info.status, run.data.tags["decision"], run.data.tags["drift"]) == ("FAILED", "stopped", "refuse")
    assert run.data.tags["decision_reasons"].startswith("The new images (")
    kept = {Path(file.path).suffix for file in client(folder).list_artifacts(run.info.run_id, "decisions")}
    assert kept == {".md", ".json", ".html"}
    assert holder(folder) == {}
