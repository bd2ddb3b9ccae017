import click
import pytest
from click.testing import CliRunner

from cxr_pipeline.cli import check_names, cli, starts_pipeline
from cxr_pipeline.common.errors import UserError

KNOWN = ["effusion", "effusion_drift", "pneumonia"]


def test_kedro_run_is_replaced_by_one_that_merges_parameters() -> None:
    from kedro.framework.cli.project import run

    assert cli.commands["run"].params == run.params
    assert cli.commands["run"].callback is not run.callback


def test_parameters_of_the_command_line_are_merged_over_those_of_a_file(monkeypatch) -> None:
    monkeypatch.setattr("kedro.framework.project.pipelines", KNOWN)
    merged = starts_pipeline(lambda **given: given)
    params = {"effusion": {"model": {"dropout": 0.2}}}
    names = {"pipeline": "effusion", "pipelines": []}
    file = {"params": {"effusion": {"model": {"dropout": 0.1, "head_units": 8}}, "raw": "/images"}, "env": "demo"}
    with click.Context(click.Command("run"), default_map=file):
        assert merged(params=params, env=None, **names) == {
            "params": {"effusion": {"model": {"dropout": 0.2, "head_units": 8}}, "raw": "/images"},
            "env": None,
            **names,
        }
    with click.Context(click.Command("run")):
        assert merged(params=params, **names) == {"params": params, **names}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("efusion", r"no pipeline 'efusion'\. Did you mean --pipeline=effusion\?"),
        ("xyz", r"no pipeline 'xyz'\. kedro registry list"),
        ("effusion,pneumonia", "for each: kedro run --pipeline=effusion && kedro run --pipeline=pneumonia$"),
    ],
)
def test_a_pipeline_that_is_unknown_is_named_with_the_nearest(name: str, message: str) -> None:
    check_names(KNOWN, KNOWN)
    with pytest.raises(UserError, match=message):
        check_names([name], KNOWN)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", "--params", "effusion.task.classes.effusion=[Pleural", "Effusion]"), "Put the whole option in quotes"),
        (("run", "--params", "epochs"), "must contain a key and a value"),
        (("run", "--runner=ParallelRunner"), "ParallelRunner cannot be used"),
        (("run", "--nope"), "kedro run --help"),
        (("run", "--conf-source", "nowhere"), "Path 'nowhere' does not exist"),
        (("lineage", "efusion"), "'efusion' is not one of 'effusion'"),
        (("jupyter", "lba"), "No such command 'lba'"),
    ],
)
def test_wrong_arguments_end_with_one_line(arguments, words) -> None:
    ended = CliRunner().invoke(cli, arguments, prog_name="kedro")
    assert isinstance(ended.exception, SystemExit)
    assert ended.exit_code in (1, 2)
    (line,) = ended.output.splitlines()
    assert line.startswith("Error: ")
    assert words in line
