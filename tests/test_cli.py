import click
import pytest

from cxr_pipeline import config
from cxr_pipeline.cli import cli, explain_parameters, plainly, user_mistake, with_file
from cxr_pipeline.errors import UserError
from cxr_pipeline.models.names import ARCHITECTURES
from cxr_pipeline.sources import LAYOUTS


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
            {"films": {"layout": "nhi", "path": "nih"}},
            "t.x.films: tag 'nhi' found using 'layout' does not match any of the expected tags: "
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
    file = {"params": {"effusion": {"model": {"dropout": 0.1, "head_units": 8}}, "raw": "/films"}, "env": "demo"}
    with click.Context(click.Command("run"), default_map=file):
        assert heard(params=params, env=None) == {
            "params": {"effusion": {"model": {"dropout": 0.2, "head_units": 8}}, "raw": "/films"},
            "env": None,
        }
    with click.Context(click.Command("run")):
        assert heard(params=params) == {"params": params}
