"""Picture the stages of a task in kedro-viz, and how experiments look in the MLflow UI, for README and guide.

    pip install playwright
    python docs/screenshots.py stages|experiments TASK [CHROMIUM]

Starts ``kedro viz``, or ``mlflow server`` on this project's ``mlflow.db``, and takes the pictures into
``docs/images/``. CHROMIUM is the path of a Chromium or Chrome; without it, the one that ``playwright install chromium``
fetched.
"""

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

PROJECT = Path(__file__).parents[1]
IMAGES = PROJECT / "docs" / "images"
SECONDS = 15  # for a page of the UI to be drawn, which goes on asking its server for news
STORE = f"sqlite:///{PROJECT / 'mlflow.db'}"


# What kedro-viz lays over its graph.
OVERLAYS = ".pipeline-global-toolbar, .pipeline-toolbar, .pipeline-minimap, .update-reminder-unexpanded, .feature-hints"


def main(what: str, task: str, chromium: str | None = None) -> None:
    """Take the pictures that are asked for."""
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        {"stages": picture_stages, "experiments": picture_experiments}[what](browser, task)
        browser.close()


def picture_stages(browser: Browser, task: str) -> None:
    """Take the picture of a task's stages."""
    page = browser.new_page(viewport={"width": 2100, "height": 1500})
    with server("kedro", "viz", "run", "--no-browser", "--pipeline", task, page="/") as address:
        page.goto(f"{address}/?pid={task}&expandAllPipelines=false", wait_until="domcontentloaded")
        page.wait_for_timeout(SECONDS * 1000)
        page.locator("[aria-label='Change to light theme']").first.click()
        page.locator(f"g.pipeline-node[data-id='{task}']").dblclick()
        page.wait_for_timeout(SECONDS * 1000)
        page.add_style_tag(content=f":is({OVERLAYS}), :is({OVERLAYS}) * {{ visibility: hidden !important }}")
        page.screenshot(path=IMAGES / "pipeline.png", clip={"x": 690, "y": 0, "width": 1220, "height": 1500})


def picture_experiments(browser: Browser, task: str) -> None:
    """Take the pictures of the MLflow UI."""
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
    with server("mlflow", "server", "--backend-store-uri", STORE, page="/health") as address:
        page = browser.new_page(viewport={"width": 1500, "height": 900}, device_scale_factor=1)
        take(page, f"{address}/#/experiments/{experiment}/runs", "mlflow-runs", expand=f"{task}_ablation")
        take(page, f"{address}/#/compare-runs?runs={compared}&experiments={experiments}", "mlflow-compare")
        take(page, f"{address}/#/models/{name}", "mlflow-versions")


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
def server(*command: str, page: str) -> Iterator[str]:
    """Run a server on a free port of this machine until the block ends; it is up when it answers for ``page``."""
    port = free_port()
    started = [sys.executable, "-m", *command, "--port", str(port)]
    with subprocess.Popen(started, cwd=PROJECT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for(f"http://127.0.0.1:{port}{page}")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def free_port() -> int:
    """A port that nobody listens on; kedro-viz takes none of the high ones that the system would choose."""
    for port in range(8100, 8200):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    sys.exit("There is no free port from 8100 to 8199.")


def wait_for(address: str) -> None:
    """Wait until a server answers, three minutes at most."""
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(address).close()
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.5)
        else:
            return
    sys.exit(f"No server came up at {address}.")


if __name__ == "__main__":
    main(*sys.argv[1:])
