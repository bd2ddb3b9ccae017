import click

from cxr_pipeline.cli import cli, merges_config_file


def test_kedro_run_is_replaced_by_one_without_tracebacks() -> None:
    from kedro.framework.cli.project import run

    assert cli.commands["run"].params == run.params
    assert cli.commands["run"].callback is not run.callback


def test_parameters_of_the_command_line_are_merged_over_those_of_a_file() -> None:
    merged = merges_config_file(lambda **given: given)
    params = {"effusion": {"model": {"dropout": 0.2}}}
    file = {"params": {"effusion": {"model": {"dropout": 0.1, "head_units": 8}}, "raw": "/images"}, "env": "demo"}
    with click.Context(click.Command("run"), default_map=file):
        assert merged(params=params, env=None) == {
            "params": {"effusion": {"model": {"dropout": 0.2, "head_units": 8}}, "raw": "/images"},
            "env": None,
        }
    with click.Context(click.Command("run")):
        assert merged(params=params) == {"params": params}
