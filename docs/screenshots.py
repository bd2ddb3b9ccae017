"""Take the screenshots of kedro-viz, the MLflow UI and a report in ``docs/images/``.

    pip install playwright
    python docs/screenshots.py stages|experiments|report TASK [CHROMIUM]

Starts ``kedro viz``, or ``mlflow server`` on the ``mlflow.db`` of this project; the report is that of ``--env demo``,
whose images are not of patients. CHROMIUM is the path of a Chromium or Chrome; the default is the one that
``playwright install chromium`` downloads.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import mlflow
from playwright.sync_api import Browser, Page, sync_playwright

from cxr_pipeline.tracking.experiments import pages_of_runs

PROJECT = Path(__file__).parents[1]
IMAGES = PROJECT / "docs" / "images"
STORE = f"sqlite:///{PROJECT / 'mlflow.db'}"
# Seconds to wait for a page: both applications keep polling their server, so the network never becomes idle.
SECONDS = 25
# Opens the pages of MLflow for model training, not those for generative AI.
TRAINING = "workflowType=machine_learning"
VIZ_SETTINGS = {"theme": "light", "showFeatureHints": False, "visible": {"sidebar": False, "miniMap": False}}
# What kedro-viz shows on top of its graph.
OVERLAYS = ".pipeline-global-toolbar, .pipeline-toolbar, .pipeline-minimap, .update-reminder-unexpanded, .feature-hints"


def main(subject: str, task: str, chromium: str | None = None) -> None:
    """Take the screenshots of the stages, the experiments or the report of a task."""
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        subjects = {"stages": capture_stages, "experiments": capture_experiments, "report": capture_report}
        subjects[subject](browser, task)
        browser.close()


def capture_stages(browser: Browser, task: str) -> None:
    """Take the screenshots of the stages of a task in kedro-viz, and of two previews after a demo run."""
    errors: list[object] = []
    with server("cxr_pipeline", "viz", "run", "--no-browser", "--env", "demo", "--pipeline", task, page="/") as address:
        page = browser.new_page(viewport={"width": 1500, "height": 1900})
        page.on("pageerror", lambda error: errors.append(error))
        page.add_init_script(f"localStorage.setItem('KedroViz', JSON.stringify({json.dumps(VIZ_SETTINGS)}))")
        open_graph(page, address)
        page.screenshot(path=IMAGES / "pipeline.png", clip={"x": 140, "y": 0, "width": 1160, "height": 1900})
        page.set_viewport_size({"width": 1300, "height": 900})
        open_graph(page, f"{address}/?pid={task}&sn={task}.metrics")
        page.get_by_role("cell", name="sensitivity", exact=True).wait_for()
        page.screenshot(path=IMAGES / "viz-metrics.png")
        open_graph(page, f"{address}/?pid={task}&sn={task}.figures")
        page.get_by_text("Expand preview").click()
        page.wait_for_timeout(2000)
        page.screenshot(path=IMAGES / "viz-figures.png")
    if errors:
        sys.exit(f"kedro-viz reported errors: {errors}")


def open_graph(page: Page, address: str) -> None:
    """Open a page of kedro-viz, wait for its graph, and hide what covers it."""
    page.goto(address, wait_until="domcontentloaded")
    page.locator("g.pipeline-node[data-id='reporting']").wait_for(timeout=60_000)
    page.wait_for_timeout(3000)  # until it has moved to the selected node
    page.add_style_tag(content=f":is({OVERLAYS}), :is({OVERLAYS}) * {{ visibility: hidden !important }}")


def capture_experiments(browser: Browser, task: str) -> None:
    """Take the screenshots of runs, of the two newest that trained a version, and of versions in the MLflow UI."""
    client, name = mlflow.MlflowClient(STORE), f"cxr-{task}"
    mlflow.set_tracking_uri(STORE)
    experiment = client.get_experiment_by_name(name).experiment_id
    runs = client.search_runs([experiment], f"tags.pipeline = '{task.removesuffix('-demo')}'", max_results=100)
    compared = quote("[" + ",".join([f'"{run.info.run_id}"' for run in runs if "cell" not in run.data.tags][:2]) + "]")
    experiments = quote(f'["{experiment}"]')
    with server("mlflow", "server", "--backend-store-uri", STORE, page="/health") as address:
        page = browser.new_page(viewport={"width": 1500, "height": 900}, device_scale_factor=1)
        capture(page, pages_of_runs(address)[name], "mlflow-runs")
        query = f"runs={compared}&experiments={experiments}&{TRAINING}"
        capture(page, f"{address}/#/compare-runs?{query}", "mlflow-compare", differences=True)
        capture(page, f"{address}/#/models/{name}?{TRAINING}", "mlflow-versions")


def capture_report(browser: Browser, task: str) -> None:
    """Take the screenshot of the top of a report."""
    page = browser.new_page(viewport={"width": 1000, "height": 1250})
    page.goto((PROJECT / "data" / "demo" / "08_reporting" / task / "report.html").as_uri())
    page.screenshot(path=IMAGES / "report.png")


def capture(page: Page, address: str, name: str, *, differences: bool = False) -> None:
    """Open a page of the MLflow UI, show only the ``differences`` of compared runs, and save the screenshot."""
    page.set_viewport_size({"width": 1500, "height": 900})
    page.goto(address, wait_until="domcontentloaded")
    page.wait_for_timeout(SECONDS * 1000)
    for panel in page.locator("[data-component-id='mlflow.assistant.chat_panel.close']").all():
        panel.dispatch_event("click")
    if differences:
        page.get_by_role("button", name="Visualizations").click()
        for switch in page.get_by_role("switch").all():
            switch.click()
        page.set_viewport_size({"width": 1500, "height": 1300})
        page.get_by_role("heading").first.scroll_into_view_if_needed()
    page.wait_for_timeout(2000)
    page.screenshot(path=IMAGES / f"{name}.png")


@contextmanager
def server(*command: str, page: str) -> Iterator[str]:
    """Run a server on a free port until the block ends; it is ready when it answers for ``page``."""
    port = free_port()
    arguments = [sys.executable, "-m", *command, "--port", str(port)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(arguments, cwd=PROJECT, start_new_session=True, **quiet) as process:
        try:
            wait_for(f"http://127.0.0.1:{port}{page}")
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(process.pid, signal.SIGTERM)  # kedro-viz serves in a child process


def free_port() -> int:
    """Return a free port below 8200; kedro-viz rejects the high ones that the system would choose."""
    for port in range(8100, 8200):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    sys.exit("There is no free port from 8100 to 8199.")


def wait_for(address: str) -> None:
    """Wait up to three minutes until a server answers."""
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(address).close()
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.5)
        else:
            return
    sys.exit(f"No answer from {address} after three minutes.")


if __name__ == "__main__":
    main(*sys.argv[1:])
