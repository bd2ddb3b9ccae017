from types import SimpleNamespace

import click
import pytest
from click.testing import CliRunner
from kedro.framework.session import KedroSession
from mlflow.exceptions import MlflowException

from cxr_pipeline import tracking
from cxr_pipeline.cli import cli, ending_plainly, explain_parameters, plainly, user_mistake, with_file
from cxr_pipeline.common.errors import Unavailable, UserError
from cxr_pipeline.data.sources import LAYOUTS
from cxr_pipeline.framework import config
from cxr_pipeline.tracking.leftovers import Sending
from cxr_pipeline.training.networks.architectures import ARCHITECTURES


def raise_wrapped() -> None:
    try:
        raise UserError("sources.images.path: no folder at /x")
    except UserError as error:
        raise RuntimeError("node failed") from error


def test_a_mistake_is_found_below_what_wraps_it() -> None:
    with pytest.raises(RuntimeError) as caught:
        raise_wrapped()
    assert user_mistake(caught.value) == "sources.images.path: no folder at /x"


def test_a_mistake_ends_the_command_with_one_message() -> None:
    with pytest.raises(click.ClickException, match=r"^sources\.images\.path: no folder at /x$"):
        plainly(raise_wrapped)()


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UserError("there is no image"), 1),
        (Unavailable("no server answers"), 69),
        (MlflowException("API request to http://host failed with exception Connection refused"), 69),
    ],
)
def test_what_may_succeed_later_has_its_own_exit_status(error, status, capsys) -> None:
    @click.command()
    @plainly
    def command() -> None:
        raise RuntimeError("node failed") from error

    ended = CliRunner().invoke(command)
    assert ended.exit_code == status
    assert ended.output.startswith("Error: ")
    with pytest.raises(SystemExit) as exited, ending_plainly():
        raise RuntimeError("node failed") from error
    assert exited.value.code == status
    assert capsys.readouterr().err.strip() == user_mistake(error)


def test_a_fault_of_the_program_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        plainly(lambda: 1 / 0)()


def test_a_server_that_went_away_is_no_fault_of_the_program() -> None:
    away = MlflowException("API request to http://host failed with exception Connection refused")
    message = user_mistake(away)
    assert message is not None
    assert message.startswith("MLflow at ")
    assert message.endswith("When it answers again, run the same command; it goes on from there.")
    assert user_mistake(MlflowException("no such run")) is None


@pytest.mark.parametrize(
    ("left", "status", "printed"),
    [
        ([], 0, "There is nothing to send in /unsent."),
        (
            [Sending("run 7 (effusion)", "2 tags", None)],
            0,
            "Sent of run 7 (effusion): 2 tags.\nNothing is left to send.",
        ),
        ([Sending("run 7 (x)", "1 tag", None), Sending("run 8 (y)", "", "no")], 1, "Not sent of run 8 (y): no."),
        ([Sending("run 7 (x)", "1 tag", "full")], 1, "Sent of run 7 (x): 1 tag.\nError: Not sent of run 7 (x): full."),
    ],
)
def test_what_waits_is_sent_by_a_command(monkeypatch, left, status, printed) -> None:
    context = SimpleNamespace(config_loader={"parameters": {"folders": {"unsent": "/unsent"}}})
    asked = []
    session = SimpleNamespace(load_context=lambda: context)
    monkeypatch.setattr(KedroSession, "create", lambda env: asked.append(env) or session)
    monkeypatch.setattr(tracking, "send_left", lambda folder: asked.append(str(folder)) or left)
    ended = CliRunner().invoke(cli, ["send", "--env", "demo"])
    assert ended.exit_code == status
    assert printed in ended.output
    assert asked == ["demo", "/unsent"]


def test_kedro_run_is_the_one_without_tracebacks() -> None:
    from kedro.framework.cli.project import run

    assert cli.commands["run"].params == run.params
    assert cli.commands["run"].callback is not run.callback


@pytest.mark.parametrize(
    ("block", "values", "line"),
    [
        (
            "Denoise",
            {"operation": "denoise", "size": 3, "sise": 1},
            "t.x.sise: there is no such parameter. Did you mean 'size'?",
        ),
        ("Denoise", {"operation": "denoise", "size": 99}, "t.x.size: should be less than or equal to 31, found 99."),
        ("Denoise", {"operation": "denoise", "size": 4}, "t.x.size: a median filter has an odd size, found 4."),
        ("Sources", {}, "t.x: at least one source is needed, found none."),
        (
            "Sources",
            {"images": {"layout": "nhi", "path": "nih"}},
            "t.x.images: tag 'nhi' found using 'layout' does not match any of the expected tags: "
            f"{', '.join(map(repr, LAYOUTS))}, found {{'layout': 'nhi', 'path': 'nih'}}.",
        ),
        (
            "Model",
            {"name": "densnet121", "weights": "none", "head_units": 0, "dropout": 0, "pooling": "average"},
            f"t.x.name: expected one of {', '.join(ARCHITECTURES)}, found 'densnet121' (did you mean 'densenet121'?).",
        ),
        (
            "Task",
            {"name": "t", "title": "T", "kind": "multiclass", "classes": {"a": ["a"], "b": ["b"], "c": None}},
            "t.x: a multiclass task has three classes or more, found 2: a, b.",
        ),
        (
            "Thresholds",
            {"calibration": "none", "policy": {"rule": "youden"}, "compared": [{"rule": "fixed", "valeu": 0.3}]},
            "t.x.compared.0.fixed.value: Field required, found {'rule': 'fixed', 'valeu': 0.3}.\n"
            "t.x.compared.0.fixed.valeu: there is no such parameter. Did you mean 'value'?",
        ),
    ],
)
def test_parameters_that_do_not_fit_are_told_one_a_line(block, values, line) -> None:
    from kedro.validation import ParameterValidationError, ParameterValidator

    class Typed:
        def extract_types_from_pipelines(self) -> dict:
            return {"t.x": getattr(config, block)}

    validator = ParameterValidator({})
    validator.type_extractor = Typed()
    with pytest.raises(ParameterValidationError) as caught:
        validator.validate_raw_params({"t": {"x": values}})
    assert explain_parameters(str(caught.value)) == line


def test_what_kedro_says_otherwise_is_passed_on() -> None:
    assert explain_parameters("Parameter 'x': value is None") == "Parameter 'x': value is None"


def test_parameters_beside_a_file_are_laid_over_those_of_the_file() -> None:
    heard = with_file(lambda **given: given)
    params = {"effusion": {"model": {"dropout": 0.2}}}
    file = {"params": {"effusion": {"model": {"dropout": 0.1, "head_units": 8}}, "raw": "/images"}, "env": "demo"}
    with click.Context(click.Command("run"), default_map=file):
        assert heard(params=params, env=None) == {
            "params": {"effusion": {"model": {"dropout": 0.2, "head_units": 8}}, "raw": "/images"},
            "env": None,
        }
    with click.Context(click.Command("run")):
        assert heard(params=params) == {"params": params}
