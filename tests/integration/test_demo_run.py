"""One small run in the demo environment: its outputs, repetition, resumption and scoring."""

import hashlib
import json
import re
import shutil
import signal
import zipfile
from pathlib import Path

import demo_projects
import mlcroissant
import pandas as pd
import pytest
from demo_projects import MODEL, arguments, client, runs, stop, succeeded, versions, wait_for


@pytest.fixture(scope="module")
def data(demo):
    return demo_projects.data(demo.folder)


@pytest.fixture(scope="module")
def reporting(demo):
    return demo_projects.reporting(demo.folder)


@pytest.fixture(scope="module")
def metrics(reporting):
    return json.loads((reporting / "metrics.json").read_text())


@pytest.fixture(scope="module")
def splits(data):
    return pd.read_parquet(data / "05_model_input/effusion/splits.parquet")


def test_a_run_prints_messages_and_a_summary(demo):
    summary = demo.printed[demo.printed.rindex("phantom images") :]
    for word in ("AUC", "sensitivity", "specificity", "threshold", "Few test", "report.html", "cxr-effusion-demo 1"):
        assert word in summary
    assert f"report: {demo.folder}/data/demo/08_reporting/effusion/report.html\n" in summary
    first, *lines = demo.printed.splitlines()
    assert re.fullmatch(r"\d\d:\d\d:\d\d INFO    Starting effusion\.", first)
    message = r"\d\d:\d\d:\d\d (INFO   |WARNING) (Completed effusion\.|training, epoch |Few patients).*"
    table = r"effusion \(.*|[┌├│└].*|warning: .*|champion: .*|model version: .*|report: .*|To .*: kedro .*"
    known = re.compile("|".join((message, r"Preparing images .*100%.*", table)))
    assert [line for line in lines if not known.fullmatch(line)] == []


def test_every_row_of_the_source_is_accounted_for_and_no_patient_is_in_two_splits(data, reporting, splits):
    counts = json.loads((reporting / "data_report.json").read_text())["sources"]["phantoms"]
    assert counts["rows_read"] == counts["manifest"] + sum(counts["quarantine"].values()) + counts["not_on_disk"]
    assert len(pd.read_parquet(data / "03_primary/effusion/manifest.parquet")) == counts["manifest"]
    assert splits.groupby("patient_id")["split"].nunique().max() == 1
    assert set(splits["split"]) == {"train", "validation", "test"}


@pytest.mark.parametrize("split", ["validation", "test"])
def test_the_decision_rule_is_fitted_on_validation_images_and_tested_on_test_images(data, splits, split):
    scored = pd.read_parquet(data / f"07_model_output/effusion/{split}_scores.parquet")
    assert set(scored["sha256"]) == set(splits.loc[splits["split"] == split, "sha256"])


def test_phantom_results_are_marked_and_kept_apart(demo, reporting):
    page = (reporting / "report.html").read_text()
    assert "PHANTOM" in page.split("</title>")[0].upper()
    assert "data:image/png;base64," in page
    assert [path.name for path in (demo.folder / "data").iterdir()] == ["demo"]


def test_the_run_is_logged_in_mlflow(demo, data, metrics, reporting):
    mlflow = client(demo.folder)
    (run,) = runs(demo.folder)
    assert run.info.status == "FINISHED"
    assert mlflow.get_experiment(run.info.experiment_id).name == "cxr-effusion-demo"
    assert (run.data.params["training.epochs"], run.data.params["sources.phantoms.layout"]) == ("2", "phantoms")
    assert len(mlflow.get_metric_history(run.info.run_id, "training/val_auc")) == 2
    assert run.data.metrics["test/auc"] == metrics["metrics"]["auc"]["value"]
    assert run.data.tags["kedro_command"].startswith("kedro run --env demo --pipeline=effusion")
    assert {entry.dataset.name for entry in run.inputs.dataset_inputs} == {"training images", "test images"}
    names = {file.path for file in mlflow.list_artifacts(run.info.run_id)}
    assert {"metrics.json", "report.html", "decision_rule.json", "figures"} <= names
    (version,) = versions(demo.folder)
    assert version.run_id == run.info.run_id
    assert run.data.tags["images"] == version.tags["images"] == "phantom"
    card = Path(mlflow.download_artifacts(version.run_id, "model_card.md")).read_text()
    assert card == (reporting / "model_card.md").read_text()
    assert "PHANTOM" in card
    assert "model_card.md" in version.description
    warnings = json.loads((reporting / "warnings.json").read_text())
    assert version.tags["warnings"] == " ".join(warnings)
    assert warnings and set(warnings) <= set(version.description.splitlines())
    registered = json.loads((data / "06_models/effusion/model_version.json").read_text())["registered"]
    assert "trained from scratch" in card
    assert "imagenet" not in card.lower()
    for fact in ("cxr-effusion-demo 1", registered, version.run_id):
        assert f": {fact}\n" in card
        assert f">{fact}<" in (reporting / "report.html").read_text()
    assert mlflow.get_experiment_by_name("cxr-effusion") is None


def contents(path):
    """Yield the uncompressed content of a file: the cells of a table, the members of an archive."""
    if path.suffix == ".parquet":
        yield pd.read_parquet(path).to_csv().encode()
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            yield from (archive.read(name) for name in archive.namelist())
    else:
        yield path.read_bytes()


def test_shared_files_contain_neither_patients_nor_secrets(demo, data, reporting):
    manifest = pd.read_parquet(data / "03_primary/effusion/manifest.parquet")
    key = (demo.folder / "conf/local/patient.key").read_text()
    # Image names contain the patient: 00000017_003.png.
    secret = re.compile("|".join([*(Path(image).stem for image in manifest["image"]), key, "s3cret-word"]).encode())
    shared = [*(demo.folder / "mlartifacts").rglob("*"), demo.folder / "mlflow.db", *reporting.glob("*")]
    # The logged package has docstrings with made-up image names.
    files = [path for path in shared if path.is_file() and path.name != "quarantine.csv" and path.suffix != ".py"]
    expected = {"images.parquet", "model_card.md", "drift_profile.npz", "model.keras", "report.html"}
    assert expected <= {path.name for path in files}
    assert [path for path in files if any(secret.search(content) for content in contents(path))] == []
    assert not secret.search(demo.printed.encode())
    tables = [pd.read_csv(path) for path in files if path.suffix == ".csv"]
    tables += [pd.read_parquet(path) for path in files if path.suffix == ".parquet"]
    assert not [table for table in tables if {"patient_id", "image"} & set(table.columns)]


def lineage(kedro, demo, *options):
    return succeeded(kedro(demo.folder, "lineage", "effusion", "--env", "demo", *options))


def test_a_version_below_the_floors_becomes_the_champion_by_hand_only(demo_copy, kedro):
    command = "kedro promote effusion 1 --env demo"
    assert "champion: none. AUC" in demo_copy.printed
    assert f"To make cxr-effusion-demo 1 the champion: {command}" in demo_copy.printed
    decisions = demo_projects.reporting(demo_copy.folder) / "decisions"
    assert {json.loads(path.read_text())["decision"] for path in decisions.glob("*.json")} == {"not promoted"}
    printed = succeeded(kedro(demo_copy.folder, *command.split()[1:]))
    record = decisions / Path(printed.split()[-1]).name
    assert "made the champion by hand" in record.read_text()
    stored = json.loads(record.with_suffix(".json").read_text())
    assert stored["decision"] == "promoted"
    assert any("too few patients" in floor["text"] and not floor["met"] for floor in stored["floors"])
    aliases = json.loads((demo_copy.folder / "data/demo/06_models/effusion/aliases.json").read_text())
    assert aliases["champion"] == 1
    champion = client(demo_copy.folder).get_model_version_by_alias(MODEL, "champion")
    assert champion.tags["decision"] == "promoted"


def test_lineage_describes_a_version(demo, data, metrics, splits, kedro):
    printed = lineage(kedro, demo, "1")
    rule = json.loads((data / "06_models/effusion/decision_rule.json").read_text())
    for counts in (splits["split"].value_counts(), splits.groupby("split")["patient_id"].nunique()):
        assert ", ".join(f"{split} {counts[split]}" for split in ("train", "validation", "test")) in printed
    for part in (
        f"test_digest: {metrics['images_digest']}",
        f"thresholds: effusion: {rule['thresholds']['effusion']}",
        f"auc: '{metrics['metrics']['auc']['value']:.3f} (too few patients: ",
        "training.epochs: 2 (today 30)",
        "size: 48",
    ):
        assert part in printed


def test_lineage_lists_the_versions_that_have_seen_a_patient_or_an_image(demo, splits, kedro):
    patient = splits.loc[splits["split"] == "test", "patient_id"].iloc[0]
    n_images = int((splits["patient_id"] == patient).sum())
    assert f"test {n_images} 1 of 1 versions" in lineage(kedro, demo, "--patient", patient.zfill(8))
    image = splits.loc[splits["split"] == "validation", "image"].iloc[0]
    assert "validation 1" in lineage(kedro, demo, "--image", f"data/demo/01_raw/phantoms/images/{image}")


def test_lineage_describes_the_images_of_a_version_in_croissant(demo, kedro, tmp_path):
    file = tmp_path / "effusion.json"
    printed = lineage(kedro, demo, "1", "--croissant", str(file))
    assert f"is in {file}, their list in {tmp_path}/effusion.parquet." in printed
    dataset = mlcroissant.Dataset(file)
    assert not dataset.metadata.ctx.issues.warnings
    (artifact,) = (demo.folder / "mlartifacts").rglob("images.parquet")
    assert dataset.metadata.file_objects[0].sha256 == hashlib.sha256(artifact.read_bytes()).hexdigest()
    assert len(list(dataset.records("images"))) == len(pd.read_parquet(artifact))
    assert str(demo.folder) not in file.read_text("utf-8")


def test_a_repeated_run_gives_the_same_bytes_and_decodes_no_image_again(demo_copy, reporting, kedro):
    data = demo_projects.data(demo_copy.folder)
    shards = {path: path.stat().st_mtime_ns for path in (data / "03_primary/images").rglob("*.npy")}
    assert shards
    printed = succeeded(kedro(demo_copy.folder, *demo_copy.command))
    assert (data / "08_reporting/effusion/metrics.json").read_bytes() == (reporting / "metrics.json").read_bytes()
    assert {path: path.stat().st_mtime_ns for path in shards} == shards
    assert "cxr-effusion-demo 2" in printed
    kept = sorted((data / "08_reporting/effusion/reports").iterdir())
    assert [path.name.partition("_")[2] for path in kept] == ["cxr-effusion-demo_1.html", "cxr-effusion-demo_2.html"]
    reports = [(folder / "report.html").read_bytes() for folder in (reporting, data / "08_reporting/effusion")]
    assert [path.read_bytes() for path in kept] == reports


def test_a_run_killed_in_training_resumes_to_the_same_result(
    demo, reporting, new_project, kedro, start_kedro, tmp_path
):
    folder = new_project(tmp_path / "killed")
    process = start_kedro(folder, *demo.command)
    models = demo_projects.data(folder) / "06_models"
    wait_for(lambda: list(models.glob("checkpoints/[!.]*.npz")), process)
    assert stop(process, signal.SIGKILL) == -signal.SIGKILL
    assert not (models / "effusion" / "model.keras").exists()
    succeeded(kedro(folder, *demo.command))
    resumed = demo_projects.reporting(folder) / "metrics.json"
    assert resumed.read_bytes() == (reporting / "metrics.json").read_bytes()
    assert [run.info.status for run in runs(folder)] == ["FINISHED", "KILLED"]


def test_only_missing_outputs_leaves_a_finished_run_unchanged(demo_copy, kedro):
    files = [path for path in demo_copy.folder.rglob("data/**/*") if path.is_file()]
    before = {path: path.stat().st_mtime_ns for path in files}
    succeeded(kedro(demo_copy.folder, *demo_copy.command, "--only-missing-outputs"))
    after = {path: path.stat().st_mtime_ns for path in demo_copy.folder.rglob("data/**/*") if path.is_file()}
    assert after == before


def test_scoring_gives_the_probabilities_of_the_test(demo_copy, kedro, tmp_path):
    data, new = demo_projects.data(demo_copy.folder), tmp_path / "new images"
    new.mkdir()
    scores = pd.read_parquet(data / "07_model_output/effusion/test_scores.parquet").set_index("image")
    for image in scores.index[:8]:
        shutil.copy(data / "01_raw/phantoms/images" / image, new)
    (new / "broken.png").write_bytes(b"no image")
    succeeded(kedro(demo_copy.folder, *arguments("effusion_scoring", f"effusion.scoring.folder={new}")))
    predictions = pd.read_csv(data / "07_model_output/effusion/predictions.csv").set_index("image")
    assert list(predictions.columns) == ["probability", "decision", "status", "reason"]
    assert predictions.loc["broken.png", ["status", "reason"]].tolist() == ["refused", "unreadable"]
    scored = predictions.drop("broken.png")
    expected = scores.loc[scored.index]
    pd.testing.assert_series_equal(
        scored["probability"], expected["probability_effusion"], rtol=0, atol=1e-6, check_names=False
    )
    assert scored["decision"].tolist() == expected["decision"].tolist()
