"""The static page of kedro-viz after a demo run: what its JSON files say."""

import json
import re
import shutil

import pandas as pd
import pytest
from demo_projects import data

pytest.importorskip("kedro_viz", reason="kedro-viz is not installed")


@pytest.fixture(scope="module")
def api(demo, kedro, tmp_path_factory):
    """Return a function that reads a file of the page."""
    folder = shutil.copytree(demo.folder, tmp_path_factory.mktemp("viz") / "project")
    built = kedro(folder, "viz", "build", "--env", "demo", "--include-previews")
    assert built.returncode == 0, built.stdout
    assert "Success" in built.stdout
    assert "Warning" not in built.stdout
    return lambda *names: json.loads(folder.joinpath("build", "api", *names).read_text())


def test_it_opens_on_the_stages_of_the_first_task(api):
    opened = api("main")
    assert len(opened["pipelines"]) < 20
    boxes = {child["id"] for child in opened["modular_pipelines"]["__root__"]["children"] if child["type"] != "data"}
    assert {"ingestion", "training", "evaluation", "reporting"} < boxes
    for pipeline in opened["pipelines"]:
        assert api("pipelines", pipeline["id"])["layers"]


def test_previews_are_in_place_and_name_no_patient_and_no_image(api, demo):
    previews = {}
    for node in api("main")["nodes"]:
        shown = api("nodes", node["id"]) if node["type"] in ("data", "task") else {}
        if shown.get("preview"):
            previews[node["name"]] = shown["preview"]
        if command := shown.get("run_command"):
            assert re.fullmatch(r"kedro run --to-(outputs=|nodes=')effusion\.[\w.]+'?", command)
    images = ("augmentation_preview", "figures", "heatmaps")
    tables = ("metrics", "classification_report", "confusion_table", "splits", "quarantine", "history")
    others = ("decision_rule", "model_card", "warnings", "model_version")
    assert {f"effusion.{name}" for name in (*images, *tables, *others)} < previews.keys()
    assert previews["fit_model"]["content"] == "Train the network and log each epoch to MLflow."
    assert "auc" in [row[0] for row in previews["effusion.metrics"]["data"]]
    text = re.sub(r"[A-Za-z0-9+/=]{500,}", "", json.dumps(previews))
    manifest = pd.read_parquet(data(demo.folder) / "03_primary/effusion/manifest.parquet")
    assert [name for name in manifest["image"] if name in text or name.removesuffix(".png") in text] == []
    columns = {column for shown in previews.values() if "columns" in shown for column in shown["columns"]}
    assert not {"image", "path", "patient_id", "sha256"} & columns
