"""Picture how experiments look in the MLflow UI, for the guide.

    pip install playwright
    python docs/screenshots.py TASK [CHROMIUM]

Starts ``mlflow server`` on this project's ``mlflow.db`` and takes the pictures into ``docs/images/``. CHROMIUM is the
path of a Chromium or Chrome; without it, the one that ``playwright install chromium`` fetched.
"""

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import mlflow
from playwright.sync_api import Page, sync_playwright

PROJECT = Path(__file__).parents[1]
IMAGES = PROJECT / "docs" / "images"
SECONDS = 15  # for a page of the UI to be drawn, which goes on asking its server for news
STORE = f"sqlite:///{PROJECT / 'mlflow.db'}"


def main(task: str, chromium: str | None = None) -> None:
    """Take every picture."""
    client = mlflow.MlflowClient(STORE)
    name = f"cxr-{task}"
    experiment = client.get_experiment_by_name(name).experiment_id
    ablation = client.search_runs(
        [experiment], "attributes.run_name = '" + f"{task}_ablation" + "'", order_by=["attributes.start_time DESC"]
    )[0].info.run_id
    nested = client.search_runs(
        [experiment], f"tags.mlflow.parentRunId = '{ablation}'", order_by=["attributes.start_time"]
    )
    compared = quote("[" + ",".join(f'"{run.info.run_id}"' for run in nested[:4]) + "]")
    experiments = quote(f'["{experiment}"]')
    with server() as address, sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium)
        page = browser.new_page(viewport={"width": 1500, "height": 900}, device_scale_factor=1)
        take(page, f"{address}/#/experiments/{experiment}/runs", "mlflow-runs", expand=f"{task}_ablation")
        take(page, f"{address}/#/compare-runs?runs={compared}&experiments={experiments}", "mlflow-compare")
        take(page, f"{address}/#/models/{name}", "mlflow-versions")
        browser.close()


def take(page: Page, address: str, name: str, *, expand: str | None = None) -> None:
    """Open a page of the UI, wait until it is drawn, show what is nested below a run, and keep its picture."""
    page.goto(address, wait_until="domcontentloaded")
    page.wait_for_timeout(SECONDS * 1000)
    for panel in page.locator("[data-component-id='mlflow.assistant.chat_panel.close']").all():
        panel.click()
    if expand:
        page.locator(f"[role=gridcell]:has-text('{expand}') button").first.click()
    page.wait_for_timeout(2000)
    page.screenshot(path=IMAGES / f"{name}.png")


@contextmanager
def server() -> Iterator[str]:
    """The UI on a free port of this machine, until the block ends."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", STORE, "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for(f"http://127.0.0.1:{port}/health")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def wait_for(address: str) -> None:
    """Wait until a server answers, a minute at most."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(address).close()
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.5)
        else:
            return
    sys.exit(f"No MLflow server came up at {address}.")


if __name__ == "__main__":
    main(*sys.argv[1:])
