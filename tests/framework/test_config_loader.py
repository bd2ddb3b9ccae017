import pytest
from shipped import TASKS, all_parameters, parameters_of

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.phantoms.radiograph import FINDINGS
from cxr_pipeline.evaluation.decision_rule import ARGMAX
from cxr_pipeline.framework import config
from cxr_pipeline.framework.config.experiments import check_cells
from cxr_pipeline.framework.config_loader import TaskConfigLoader, task_names


@pytest.fixture
def load(tmp_path):
    """Write parameter files and load them with the project's loader."""

    def load(files, **runtime_params):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        loader = TaskConfigLoader(
            str(tmp_path),
            env="demo",
            base_env="base",
            default_run_env="local",
            runtime_params=runtime_params,
            merge_strategy={"parameters": "soft"},
        )
        return loader["parameters"]

    return load


BASE = {
    "base/parameters/defaults.yml": "defaults: {training: {epochs: 20, seed: 1}, sources: {images: {path: x}}}",
    "base/parameters/tasks.yml": "effusion: {task: {title: x}, training: {epochs: 30}}",
}
DEMO = BASE | {"demo/parameters/defaults.yml": "defaults: {training: {epochs: 2}, sources: {images: null}}"}
BASE |= {"demo/parameters/other.yml": "other: 1"}


@pytest.mark.parametrize(
    ("files", "runtime_params", "epochs"),
    [(BASE, {}, 30), (DEMO, {}, 2), (DEMO, {"effusion": {"training": {"epochs": 1}}}, 1)],
    ids=["task", "environment", "command line"],
)
def test_defaults_task_environment_and_command_line_override_each_other(load, files, runtime_params, epochs):
    parameters = load(files, **runtime_params)
    assert parameters["effusion"]["training"] == {"epochs": epochs, "seed": 1}
    assert parameters["effusion"]["sources"] == {"images": {"path": "x"} if files is BASE else None}
    assert "defaults" not in parameters


@pytest.mark.parametrize("env", ["base", "demo"])
@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_valid_parameters_and_experiments(env, task):
    config.Folders(**all_parameters(env)["folders"])
    parameters = config.TaskParameters.model_validate(parameters_of(task, env))
    assert parameters.task.name == task
    assert {source.layout == "phantoms" for source in parameters.sources.root.values()} == {env == "demo"}
    rules = {policy.rule for policy in (parameters.thresholds.policy, *parameters.thresholds.compared)}
    assert ARGMAX not in rules or parameters.task.exclusive
    assert len(check_cells(task, parameters_of(task, env), parameters.ablation)) >= 5
    # A search that changes no image and no features reuses what is cached.
    space = parameters.tuning.space
    assert len(space) >= 4
    assert {name.split(".")[0] for name in space} <= {"model", "training"}
    assert not {"model.name", "model.pooling", "training.fine_tuning.cut"} & space.keys()
    fine_tuned = {name for name in space if name.startswith("training.fine_tuning")}
    assert not fine_tuned or parameters.model.weights != "none"


@pytest.mark.parametrize("task", TASKS)
def test_phantoms_have_every_class_of_a_task(task):
    parameters = config.TaskParameters.model_validate(parameters_of(task, "demo"))
    prevalences = next(iter(parameters.sources.root.values())).prevalence
    assert prevalences.keys() <= set(FINDINGS)
    shown = {finding for finding, prevalence in prevalences.items() if prevalence > 0} | {"No Finding"}
    classes = {parameters.task.labels.class_of(finding) for finding in shown}
    assert classes >= set(parameters.task.outputs)


def test_the_ablation_of_abnormality_has_twelve_models():
    cells = config.Ablation(**parameters_of("abnormality")["ablation"]).overrides()
    kinds = {(cell["model"]["name"], "augmentation" in cell, cell["training"]["monitor"]) for cell in cells.values()}
    assert len(cells) == len(kinds) == 12


@pytest.mark.parametrize(
    "content", [b"effusion: {title: Erg\xfcsse}", b"effusion: {title: \x01}", b"[effusion]", b"[]", b"5"]
)
def test_a_file_that_is_no_yaml_in_utf_8_is_named(content, load, tmp_path):
    file = tmp_path / "demo" / "parameters" / "tasks.yml"
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    with pytest.raises(UserError, match=rf"{file} cannot be read: .+ Expected YAML in UTF-8, with keys and values\."):
        load(BASE)


def test_a_block_with_a_task_in_any_environment_is_a_task(load, tmp_path):
    mine = {"local/parameters/mine.yml": "lung: {task: {title: x}}\nother: {training: {epochs: 1}}"}
    assert load(BASE | mine)["effusion"]["task"] == {"title": "x", "name": "effusion"}
    assert task_names(tmp_path) == ("effusion", "lung")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("my task: {task: {title: x}}", "'my task' cannot be the name of a task. Expected letters, digits and under"),
        ("a:\n  b: {task: [}", r"parameters/tasks\.yml cannot be read: line 2: did not find .* Expected YAML in UTF-8"),
    ],
)
def test_a_file_with_no_name_for_a_pipeline_is_named(content, message, tmp_path):
    (tmp_path / "local" / "parameters").mkdir(parents=True)
    (tmp_path / "local" / "parameters" / "tasks.yml").write_text(content)
    with pytest.raises(UserError, match=message):
        task_names(tmp_path)


@pytest.mark.parametrize(
    ("in_file", "given", "message"),
    [
        ("5", {}, "effusion: expected a block of parameters, found 5"),
        ("{}", {"effusion": 0}, "effusion: expected a block of parameters, found 0"),
        ("{}", {"effusion": [1]}, r"cannot replace a block .* such as effusion\.training\.epochs=3"),
    ],
)
def test_a_task_whose_block_is_a_list_or_value_is_an_error(in_file, given, message, load):
    with pytest.raises(UserError, match=message):
        load(BASE | {"demo/parameters/tasks.yml": f"effusion: {in_file}"}, **given)
