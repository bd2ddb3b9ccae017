import click
import pytest

from cxr_pipeline.cli import cli, plainly, user_mistake
from cxr_pipeline.errors import UserError


def raise_wrapped() -> None:
    try:
        raise UserError("sources.films.path: no folder at /x")
    except UserError as error:
        raise RuntimeError("node failed") from error


def test_a_mistake_is_found_below_what_wraps_it() -> None:
    with pytest.raises(RuntimeError) as caught:
        raise_wrapped()
    assert user_mistake(caught.value) == "sources.films.path: no folder at /x"


def test_a_mistake_ends_the_command_with_one_message() -> None:
    with pytest.raises(click.ClickException, match=r"^sources\.films\.path: no folder at /x$"):
        plainly(raise_wrapped)()


def test_a_fault_of_the_program_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        plainly(lambda: 1 / 0)()


def test_kedro_run_is_the_one_without_tracebacks() -> None:
    from kedro.framework.cli.project import run

    assert cli.commands["run"].params == run.params
    assert cli.commands["run"].callback is not run.callback
