"""``kedro mlflow ui``: the runs and model versions of this project in a browser."""

import subprocess
import sys

import click
from kedro.framework.cli.utils import env_option
from kedro.framework.session import KedroSession


@click.group()
def mlflow() -> None:
    """Inspect runs and model versions in MLflow."""


@mlflow.command()
@env_option
@click.option("--host", "-h", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", "-p", default=5000, show_default=True, help="Port to listen on.")
def ui(env: str | None, host: str, port: int) -> None:
    """Start the MLflow UI for this project, or open that of its MLflow server if it has one.

    Prints the address of the runs of each task.
    """
    from cxr_pipeline.tracking.experiments import pages_of_runs
    from cxr_pipeline.tracking.server import connect, is_server

    project = KedroSession.create(env=env).load_context().config_loader["globals"]
    uri = project["tracking_uri"]
    connect(uri, artifacts=project["artifacts"])
    address = uri if is_server(uri) else f"http://{host}:{port}"
    for name, page in pages_of_runs(address).items():
        click.echo(f"{name}: {page}")
    if is_server(uri):
        click.launch(uri)
        return
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri, "--host", host, "--port", str(port)]
    sys.exit(subprocess.call(command))  # noqa: S603
