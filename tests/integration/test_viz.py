"""The static page of kedro-viz after a demo run: what its JSON files say."""

import json
import re
import shutil
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pandas as pd
import pytest
from demo_projects import data

from cxr_pipeline.pipeline_registry import STAGES

pytest.importorskip("kedro_viz", reason="kedro-viz is not installed")


@pytest.fixture(scope="module")
def page(demo, kedro, tmp_path_factory):
    """The folder of the page."""
    folder = shutil.copytree(demo.folder, tmp_path_factory.mktemp("viz") / "project")
    built = kedro(folder, "viz", "build", "--env", "demo", "--include-previews")
    assert built.returncode == 0, built.stdout
    assert "Success" in built.stdout
    assert "Warning" not in built.stdout
    return folder / "build"


@pytest.fixture(scope="module")
def api(page):
    """Return a function that reads a JSON file of the page."""
    return lambda *names: json.loads(page.joinpath("api", *names).read_text())


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
    assert previews["fit_model"]["content"].startswith("Train the network and log each epoch to MLflow; stop")
    assert "auc" in [row[0] for row in previews["effusion.metrics"]["data"]]
    text = re.sub(r"[A-Za-z0-9+/=]{500,}", "", json.dumps(previews))
    manifest = pd.read_parquet(data(demo.folder) / "03_primary/effusion/manifest.parquet")
    assert [name for name in manifest["image"] if name in text or name.removesuffix(".png") in text] == []
    columns = {column for shown in previews.values() if "columns" in shown for column in shown["columns"]}
    assert not {"image", "path", "patient_id", "sha256"} & columns


def test_a_browser_draws_the_stages_in_order(page, browser):
    errors, handler = [], partial(SimpleHTTPRequestHandler, directory=str(page))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        shown = browser.new_page()
        shown.on("pageerror", lambda error: errors.append(error))
        shown.goto(f"http://127.0.0.1:{server.server_port}/?sn=effusion.metrics")
        shown.get_by_role("cell", name="sensitivity", exact=True).wait_for()
        heights = {name: shown.locator(f"g.pipeline-node[data-id='{name}']").bounding_box()["y"] for name in STAGES}
        server.shutdown()
    order = ("ingestion", "splitting", "training", "thresholds", "evaluation", "registration", "reporting")
    assert sorted(order, key=heights.get) == list(order)
    assert errors == []
