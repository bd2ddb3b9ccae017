from pathlib import Path

import pytest
from kedro.config import MissingConfigException, OmegaConfigLoader
from kedro.validation import ParameterValidationError, ParameterValidator
from mlflow.exceptions import MlflowException

from cxr_pipeline.common.errors import Unavailable, UserError
from cxr_pipeline.framework.config import Morphology, Network, Sources, Thresholds
from cxr_pipeline.framework.error_messages import explain, explain_parameters
from cxr_pipeline.training.networks.architectures import ARCHITECTURES

MISTAKE = UserError("sources.images.path: no folder at /x")
AWAY = MlflowException("API request to http://host failed with exception Connection refused")


def raised_from(cause: Exception) -> Exception:
    try:
        try:
            raise cause
        except Exception as error:
            raise RuntimeError("node failed") from error
    except RuntimeError as error:
        return error


def raised_while_handling(cause: Exception) -> Exception:
    try:
        try:
            raise cause
        except Exception:
            return 1 / 0
    except ZeroDivisionError as error:
        return error


def test_a_missing_environment_is_named(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    loader = OmegaConfigLoader(str(tmp_path), base_env="base", env="dmeo")
    with pytest.raises(MissingConfigException) as raised:
        loader["parameters"]
    assert f"{tmp_path}/dmeo. Expected a folder of the configuration" in str(explain(raised.value))


def test_a_user_error_is_found_below_the_errors_raised_from_it() -> None:
    assert explain(raised_from(raised_from(MISTAKE))) == (str(MISTAKE), 1)


@pytest.mark.parametrize("cause", [MISTAKE, AWAY, ParameterValidationError("- Parameter 'x': wrong")])
def test_a_defect_raised_while_handling_a_user_error_has_no_message(cause: Exception) -> None:
    assert explain(cause) is not None
    assert explain(raised_while_handling(cause)) is None


@pytest.mark.parametrize(("error", "status"), [(MISTAKE, 1), (Unavailable("no server answers"), 69), (AWAY, 69)])
def test_a_temporary_error_has_its_own_exit_status(error: Exception, status: int) -> None:
    assert explain(error)[1] == explain(raised_from(error))[1] == status
    assert explain(MlflowException("no such run")) is None


@pytest.mark.parametrize(
    ("block", "values", "line"),
    [
        (
            Morphology,
            {"steps": [{"operation": "top_hat", "size": 3, "sise": 1}]},
            "t.x.steps.0.top_hat.sise: unknown parameter. Did you mean 'size'?",
        ),
        (
            Morphology,
            {"steps": [{"operation": "top_hat", "size": 256}]},
            "t.x.steps.0.top_hat.size: should be less than or equal to 255, found 256.",
        ),
        (Sources, {}, "t.x: expected at least one source, found none."),
        (
            Network,
            {"name": "densnet121", "weights": "none", "head_units": 0, "dropout": 0, "pooling": "average"},
            f"t.x.name: expected one of {', '.join(ARCHITECTURES)}, found 'densnet121' (did you mean 'densenet121'?).",
        ),
        (
            Sources,
            {"images": {"layout": "label_table", "path": "x", "table": "t", "columns": {"image": "i", "lables": "x"}}},
            "t.x.images.label_table.columns.lables: unknown parameter. Did you mean 'labels'?",
        ),
        (
            Thresholds,
            {"calibration": "none", "policy": {"rule": "youden"}, "compared": [{"rule": "fixed", "valeu": 0.3}]},
            "t.x.compared.0.fixed.value: Field required, found {'rule': 'fixed', 'valeu': 0.3}.\n"
            "t.x.compared.0.fixed.valeu: unknown parameter. Did you mean 'value'?",
        ),
    ],
)
def test_invalid_parameters_are_reported_one_per_line(block, values, line) -> None:
    class Typed:
        def extract_types_from_pipelines(self) -> dict:
            return {"t.x": block}

    validator = ParameterValidator({})
    validator.type_extractor = Typed()
    with pytest.raises(ParameterValidationError) as caught:
        validator.validate_raw_params({"t": {"x": values}})
    assert explain_parameters(str(caught.value)) == line
