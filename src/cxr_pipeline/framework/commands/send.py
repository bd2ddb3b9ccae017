"""``kedro send``: what runs could not tell MLflow while its server was away."""

from pathlib import Path

import click
from kedro.framework.cli.utils import env_option
from kedro.framework.session import KedroSession

from cxr_pipeline.common.errors import UserError


@click.command()
@env_option
def send(env: str | None) -> None:
    """Send to MLflow what runs could not while its server was away."""
    from cxr_pipeline import tracking

    session = KedroSession.create(env=env)
    folder = Path(session.load_context().config_loader["parameters"]["folders"]["unsent"])
    found = tracking.send_left(folder)
    for run in found:
        if run.sent:
            click.echo(f"Sent of {run.name}: {run.sent}.")
    problems = [f"Not sent of {run.name}: {run.problem}." for run in found if run.problem]
    if problems:
        raise UserError("\n".join(problems))
    click.echo("Nothing is left to send." if found else f"There is nothing to send in {folder}.")
