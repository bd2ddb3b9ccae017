import importlib.util
import re
import signal
import socket
import subprocess
import sys
import time

import pandas as pd
import pytest
import requests
from click.testing import CliRunner

from cxr_pipeline.cli import cli


@pytest.fixture
def address(demo):
    """Address of the page for the demo model."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "cxr_pipeline", "reader", "effusion", "--env", "demo", "--port", str(port)]
    process = subprocess.Popen(command, cwd=demo.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 120
    try:
        while time.monotonic() < deadline and process.poll() is None:
            try:
                if requests.get(f"{url}/_stcore/health", timeout=5).ok:
                    break
            except requests.ConnectionError:
                time.sleep(0.5)
        yield url
    finally:
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=30)
        assert "Traceback" not in output, output


def test_images_are_scored_and_refused_in_a_browser(browser, address, demo, tmp_path):
    scores = pd.read_parquet(demo.folder / "data/demo/07_model_output/effusion/test_scores.parquet")
    (raw,) = demo.folder.glob("data/demo/01_raw/*/images")
    known = scores.iloc[0]
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 no image")
    page = browser.new_page()
    try:
        page.goto(address)
        uploader = page.locator("input[type=file]")
        uploader.wait_for(state="attached", timeout=120_000)
        uploader.set_input_files([raw / known["image"], tmp_path / "broken.jpg"])
        # The parts of the page arrive in no fixed order.
        for shown in ("Refused.", f"{known['probability_effusion']:.3f}"):
            page.get_by_text(shown).first.wait_for(timeout=120_000)
        text = page.inner_text("body")
        pictures = page.get_by_test_id("stImage").count()
    finally:
        page.close()
    assert "For research use only" in text
    assert "This model was trained on phantoms" in text
    assert re.search(rf"Decision\s+{known['decision']}", text)
    assert pictures == 2
    assert "What the model card says" in text


def test_without_streamlit_the_command_says_what_to_install(monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    done = CliRunner().invoke(cli, ["reader", "effusion"])
    assert done.exit_code == 1
    assert done.output.endswith("-m pip install 'cxr_pipeline[reader]'\n")
