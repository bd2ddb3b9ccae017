import pytest
from kedro.validation import ParameterValidationError, ParameterValidator
from shipped import TASKS, all_parameters

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.common.mappings import lay_over, nest
from cxr_pipeline.data.sources import LAYOUTS
from cxr_pipeline.framework.config import Morphology, Network, Sources, Thresholds
from cxr_pipeline.framework.exit import explain
from cxr_pipeline.framework.invalid_parameters import check_parameters, explain_parameters
from cxr_pipeline.training.networks.weights import ARCHITECTURES


def check(given, task="effusion"):
    """Return the message for parameters of the command line, None if a run of the task reads them."""
    nested = nest(given)
    try:
        check_parameters(lay_over(all_parameters(), nested), nested, task)
    except (UserError, ParameterValidationError) as error:
        return explain(error)[0]
    return None


@pytest.mark.parametrize("task", [*TASKS, None])
def test_the_parameters_of_the_project_are_known(task):
    assert check({}, task) is None
    assert check({"raw": "/images", "folders.checkpoints": "/x"}, task) is None


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("effusoin.training.epochs", "{}: unknown parameter. Did you mean 'effusion.training.epochs'?"),
        ("effusoin.sources.images.path", "{}: unknown parameter. Did you mean 'effusion.sources.images.path'?"),
        ("epochs", "{}: unknown parameter. Did you mean 'effusion.training.epochs'?"),
        ("training.epochs", "{}: unknown parameter. Did you mean 'effusion.training.epochs'?"),
        ("rawe", "{}: unknown parameter. Did you mean 'raw'?"),
        ("zzz", "{}: unknown parameter."),
        ("effusion.epochs", "{}: unknown parameter. Did you mean 'effusion.training.epochs'?"),
        ("effusion.task.name", "{}: expected effusion, as its block is named, found '1'. Omit it."),
        ("effusion.trainig.epochs", "effusion.trainig: unknown parameter. Did you mean 'training'?"),
        ("effusion.training.dropout", "{}: unknown parameter. Did you mean 'effusion.model.dropout'?"),
        ("effusion.source", "{}: unknown parameter. Did you mean 'sources'?"),
        # A block that the pipeline of the task does not read.
        ("effusion.scoring.fodler", "{}: unknown parameter. Did you mean 'folder'?"),
        (
            "pneumonia.training.epochs",
            "{}: this run does not read the parameters of pneumonia. Remove it, or run kedro run --pipeline=pneumonia.",
        ),
    ],
)
def test_a_parameter_that_nothing_reads_is_named_with_the_nearest(key, message):
    assert check({key: "1"}) == message.format(key)


def test_a_task_that_is_not_configured_is_named():
    # The defaults of all tasks alone.
    block = {name: values for name, values in all_parameters()["effusion"].items() if name != "task"}
    parameters = {**all_parameters(), "effusion": block}
    with pytest.raises(UserError, match=r"no task effusion\. .* with --env, conf/local is not read"):
        check_parameters(parameters, {}, "effusion")


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
        (
            Morphology,
            {"steps": [{"operation": "top_hat", "size": "three"}]},
            "t.x.steps.0.top_hat.size: should be a valid integer, found 'three'.",
        ),
        (Sources, {"images": {"path": "x"}}, "t.x.images: expected a layout, found none."),
        (
            Sources,
            {"images": {"layout": "labeltable", "path": "x"}},
            f"t.x.images: expected one of {', '.join(LAYOUTS)} as layout, "
            "found 'labeltable'. Did you mean label_table?",
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
            "t.x.compared.0.fixed.value: expected a value, found none.\n"
            "t.x.compared.0.fixed.valeu: unknown parameter. Did you mean 'value'?",
        ),
    ],
)
def test_invalid_parameters_are_reported_one_per_line(block, values, line):
    class Typed:
        def extract_types_from_pipelines(self):
            return {"t.x": block}

    validator = ParameterValidator({})
    validator.type_extractor = Typed()
    with pytest.raises(ParameterValidationError) as caught:
        validator.validate_raw_params({"t": {"x": values}})
    assert explain_parameters(str(caught.value)) == line
