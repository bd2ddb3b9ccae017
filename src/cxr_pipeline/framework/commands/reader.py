"""``kedro reader``: a page in the browser that scores the images dropped on it."""

import importlib.util
import os
import sys
from pathlib import Path

import click
from kedro.framework.cli.utils import env_option

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.framework.commands.arguments import TASK

_PAGE = Path(__file__).parents[1] / "reader_page.py"
# The limit of an image file.
_MAX_MIB = 256


@click.command()
@TASK
@click.option("--model", metavar="URI", help="Version, such as 3 or models:/cxr-effusion/3; the champion by default.")
@click.option("--host", "-h", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", "-p", default=8501, show_default=True, help="Port to listen on.")
@env_option
def reader(task: str, model: str | None, host: str, port: int, env: str | None) -> None:
    """Open a page that shows probability, decision and heat map of images that you drop on it.

    The images are not stored. There is no login: with --host 0.0.0.0, anybody in the network can use the page.
    """
    if importlib.util.find_spec("streamlit") is None:
        raise UserError(
            f"This command needs Streamlit. Install it: {sys.executable} -m pip install 'cxr_pipeline[reader]'"
        )
    options = {
        "server.address": host,
        "server.port": port,
        "server.maxUploadSize": _MAX_MIB,
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": "false",
        "client.toolbarMode": "viewer",
        "client.showErrorDetails": "none",
    }
    command = [sys.executable, "-m", "streamlit", "run", str(_PAGE)]
    command += [f"--{name}={value}" for name, value in options.items()]
    # In place of this process, so that a signal ends the page.
    os.execv(sys.executable, [*command, "--", task, env or "", model or ""])  # noqa: S606
