"""One whole run in the demo environment, as a newcomer makes it, and what can be said of its results."""

import json
import re
import shutil
import signal
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

SMALL = (
    "effusion.sources.phantoms.n_patients=40,effusion.training.epochs=2,effusion.resolution.size=48,"
    "effusion.evaluation.replicates=200,effusion.tuning.storage=postgresql+psycopg://user:s3cret-word@host/studies"
)


@pytest.fixture(scope="module")
def demo(tmp_path_factory, new_project, kedro):
    """A project in which the demo has run once, small; the finished process, and its folder of data."""
    folder = new_project(tmp_path_factory.mktemp("demo") / "project")
    finished = kedro(folder, "run", "--env", "demo", "--pipeline=effusion", "--params", SMALL)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return folder, finished.stdout


@pytest.fixture(scope="module")
def reporting(demo) -> Path:
    return demo[0] / "data" / "demo" / "08_reporting" / "effusion"


def test_it_ends_with_the_figures_a_user_looks_for(demo, reporting) -> None:
    _, printed = demo
    table = printed[printed.index("phantom images: drawn") :]
    for word in ("AUC", "sensitivity", "specificity", "threshold", "report.html", "cxr-effusion-demo 1"):
        assert word in table
    assert "Traceback" not in printed


def test_metrics_have_the_form_that_others_read(reporting) -> None:
    metrics = json.loads((reporting / "metrics.json").read_text())
    assert metrics["task"] == "effusion"
    assert metrics["kind"] == "binary"
    assert metrics["split"] == "test"
    assert metrics["phantom"] is True
    assert metrics["intervals"]["clustered_by"] == "patient"
    assert 0 < metrics["n_patients"] <= metrics["n_images"]
    assert list(metrics["thresholds"]) == ["effusion"]
    for name in ("auc", "average_precision", "accuracy", "balanced_accuracy", "sensitivity", "specificity"):
        measured = metrics["metrics"][name]
        assert 0 <= measured["low"] <= measured["value"] <= measured["high"] <= 1
    assert metrics["per_class"]["effusion"] == metrics["metrics"]
    assert {"precision", "f1", "brier", "ece"} <= set(metrics["metrics"])


def test_every_row_read_is_accounted_for(demo, reporting) -> None:
    report = json.loads((reporting / "data_report.json").read_text())
    counts = report["sources"]["phantoms"]
    assert counts["rows_read"] == counts["manifest"] + sum(counts["quarantine"].values()) + counts["not_on_disk"]
    manifest = pd.read_parquet(demo[0] / "data/demo/03_primary/effusion/manifest.parquet")
    assert len(manifest) == counts["manifest"]


def test_no_patient_is_in_two_splits(demo) -> None:
    splits = pd.read_parquet(demo[0] / "data/demo/05_model_input/effusion/splits.parquet")
    assert splits.groupby("patient_id")["split"].nunique().max() == 1
    assert set(splits["split"]) == {"train", "validation", "test"}


def test_the_report_says_that_images_are_drawn(reporting) -> None:
    page = (reporting / "report.html").read_text()
    assert "PHANTOM" in page.split("</title>")[0].upper()
    assert "data:image/png;base64," in page


def test_nothing_real_is_written(demo) -> None:
    folder, _ = demo
    assert [path.name for path in (folder / "data").iterdir()] == ["demo"]


def test_the_run_is_in_mlflow_flat_and_marked_as_phantom(demo) -> None:
    import mlflow

    folder, _ = demo
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_experiment_by_name("cxr-effusion-demo")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["training.epochs"] == "2"
    assert run.data.params["sources.phantoms.layout"] == "phantoms"
    assert run.data.tags["images"] == "phantom"
    assert len(client.get_metric_history(run.info.run_id, "epoch/val_auc")) == 2
    metrics = json.loads((folder / "data/demo/08_reporting/effusion/metrics.json").read_text())
    assert run.data.metrics["test/auc"] == metrics["metrics"]["auc"]["value"]
    names = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert {"metrics.json", "report.html", "decision_rule.json", "figures"} <= names
    (version,) = client.search_model_versions("name='cxr-effusion-demo'")
    assert version.run_id == run.info.run_id
    assert version.tags["images"] == "phantom"
    assert client.get_experiment_by_name("cxr-effusion") is None


def contents(path: Path) -> Iterator[bytes]:
    """What is in a file, unpacked: of a table its cells, of an archive its members."""
    if path.suffix == ".parquet":
        yield pd.read_parquet(path).to_csv().encode()
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            yield from (archive.read(name) for name in archive.namelist())
    else:
        yield path.read_bytes()


def test_nothing_that_leaves_names_a_patient_or_tells_a_secret(demo, reporting) -> None:
    folder, printed = demo
    manifest = pd.read_parquet(folder / "data/demo/03_primary/effusion/manifest.parquet")
    key = (folder / "conf/local/patient.key").read_text()
    # An image is named after its patient: 00000017_003.png.
    names = re.compile("|".join([*(Path(image).stem for image in manifest["image"]), key, "s3cret-word"]).encode())
    leaving = [*(folder / "mlartifacts").rglob("*"), folder / "mlflow.db", *reporting.glob("*")]
    # The package's own code goes along too, and its docstrings have examples of names.
    files = [path for path in leaving if path.is_file() and path.name != "quarantine.csv" and path.suffix != ".py"]
    assert {"images.parquet", "model_card.md", "drift_profile.npz", "model.keras", "report.html"} <= {
        path.name for path in files
    }
    assert [path for path in files if any(names.search(content) for content in contents(path))] == []
    assert not names.search(printed.encode())
    tables = [pd.read_csv(path) for path in files if path.suffix == ".csv"]
    tables += [pd.read_parquet(path) for path in files if path.suffix == ".parquet"]
    assert tables
    assert not [table for table in tables if {"patient_id", "image"} & set(table.columns)]


def lineage(kedro, demo, *arguments: str) -> str:
    asked = kedro(demo[0], "lineage", "effusion", "--env", "demo", *arguments)
    assert asked.returncode == 0, asked.stdout + asked.stderr
    return " ".join(re.sub("[│└┴┘─]", " ", asked.stdout).split())


def test_a_version_tells_where_it_comes_from(demo, reporting, kedro, tmp_path) -> None:
    folder, _ = demo
    splits = pd.read_parquet(folder / "data/demo/05_model_input/effusion/splits.parquet")
    said = lineage(kedro, demo, "1")
    metrics = json.loads((reporting / "metrics.json").read_text())
    rule = json.loads((folder / "data/demo/06_models/effusion/decision_rule.json").read_text())
    n_images, n_patients = splits["split"].value_counts(), splits.groupby("split")["patient_id"].nunique()
    for counts in (n_images, n_patients):
        assert ", ".join(f"{split} {counts[split]}" for split in ("train", "validation", "test")) in said
    assert f"tag test_digest {metrics['images_digest']}" in said
    assert f"thresholds.effusion: {rule['thresholds']['effusion']:.3f}" in said
    assert f"auc: {metrics['metrics']['auc']['value']:.3f} (" in said
    assert "training.epochs: 2 (today 30)" in said
    assert "size: 48" in said
    lineage(kedro, demo, "1", "--images", str(tmp_path / "images.csv"))
    images = pd.read_csv(tmp_path / "images.csv").set_index("sha256")["split"]
    assert images.to_dict() == splits.set_index("sha256")["split"].to_dict()


def test_it_is_told_which_versions_have_seen_a_patient_or_a_image(demo, kedro) -> None:
    folder, _ = demo
    splits = pd.read_parquet(folder / "data/demo/05_model_input/effusion/splits.parquet")
    patient = splits.loc[splits["split"] == "test", "patient_id"].iloc[0]
    n_images = int((splits["patient_id"] == patient).sum())
    assert f"test {n_images} 1 of 1 versions" in lineage(kedro, demo, "--patient", patient.zfill(8))
    image = splits.loc[splits["split"] == "validation", "image"].iloc[0]
    assert "validation 1" in lineage(kedro, demo, "--image", f"data/demo/01_raw/phantoms/images/{image}")
    asked = ("lineage", "effusion", "--env", "demo", "--patient", patient)
    other = kedro(folder, *asked, CXR_PSEUDONYM_KEY="another key, long enough")
    assert "unknown: hashed with another key" in other.stdout


def test_a_version_has_its_card(demo, reporting) -> None:
    import mlflow

    folder, _ = demo
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    version = client.get_model_version("cxr-effusion-demo", "1")
    logged = Path(client.download_artifacts(version.run_id, "model_card.md")).read_text()
    assert logged == (reporting / "model_card.md").read_text()
    assert "PHANTOM" in logged
    assert "model_card.md, an artifact of the run that registered this version" in version.description


def test_the_same_seed_gives_the_same_bytes_and_the_store_decodes_nothing_again(demo, reporting, kedro) -> None:
    folder, _ = demo
    first = (reporting / "metrics.json").read_bytes()
    shards = {path: path.stat().st_mtime_ns for path in (folder / "data/demo/03_primary/images").rglob("shard-*")}
    again = kedro(folder, "run", "--env", "demo", "--pipeline=effusion", "--params", SMALL)
    assert again.returncode == 0, again.stderr
    assert (reporting / "metrics.json").read_bytes() == first
    assert {path: path.stat().st_mtime_ns for path in shards} == shards
    assert "cxr-effusion-demo 2" in again.stdout


def test_a_run_killed_in_training_goes_on_and_ends_with_the_same_result(
    demo, reporting, new_project, kedro, start_kedro, tmp_path
) -> None:
    folder = new_project(tmp_path / "killed")
    arguments = ("run", "--env", "demo", "--pipeline=effusion", "--params", SMALL)
    process = start_kedro(folder, *arguments)
    checkpoints = folder / "data/demo/06_models/checkpoints"
    while not list(checkpoints.glob("[!.]*.npz")) and process.poll() is None:
        time.sleep(0.02)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not (folder / "data/demo/06_models/effusion/model.keras").exists()
    assert kedro(folder, *arguments).returncode == 0
    killed = folder / "data/demo/08_reporting/effusion/metrics.json"
    assert killed.read_bytes() == (reporting / "metrics.json").read_bytes()


def test_with_only_missing_outputs_a_finished_run_does_nothing(demo, kedro) -> None:
    folder, _ = demo
    data = folder / "data"
    before = {path: path.stat().st_mtime_ns for path in data.rglob("*") if path.is_file()}
    again = kedro(folder, "run", "--env", "demo", "--pipeline=effusion", "--params", SMALL, "--only-missing-outputs")
    assert again.returncode == 0, again.stderr
    assert {path: path.stat().st_mtime_ns for path in data.rglob("*") if path.is_file()} == before


def test_scoring_gives_the_probabilities_of_the_test(demo, kedro, tmp_path) -> None:
    folder, _ = demo
    images = folder / "data/demo/01_raw/phantoms/images"
    new = tmp_path / "new images"
    new.mkdir()
    scores = pd.read_parquet(folder / "data/demo/07_model_output/effusion/test_scores.parquet").set_index("image")
    for image in scores.index[:8]:
        shutil.copy(images / image, new)
    (new / "broken.png").write_bytes(b"no image")
    asked = f"effusion.scoring.folder={new}"
    finished = kedro(folder, "run", "--env", "demo", "--pipeline=effusion_scoring", "--params", asked)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    predictions = pd.read_csv(folder / "data/demo/07_model_output/effusion/predictions.csv").set_index("image")
    assert list(predictions.columns) == ["probability", "decision", "status", "reason"]
    assert predictions.loc["broken.png", ["status", "reason"]].tolist() == ["refused", "unreadable"]
    scored = predictions.drop("broken.png")
    expected = scores.loc[scored.index]
    pd.testing.assert_series_equal(
        scored["probability"], expected["probability_effusion"], rtol=0, atol=1e-6, check_names=False
    )
    assert scored["decision"].tolist() == expected["decision"].tolist()
