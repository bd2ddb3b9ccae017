import functools
from pathlib import Path

import pytest

from cxr_pipeline import settings
from cxr_pipeline.data.phantoms.findings import FINDINGS
from cxr_pipeline.evaluation.decision_rule import ARGMAX
from cxr_pipeline.framework import config
from cxr_pipeline.framework.config.experiments import check_cells
from cxr_pipeline.framework.config_loader import TaskConfigLoader

CONF = Path(__file__).parents[2] / "conf"


@pytest.fixture
def load(tmp_path: Path):
    """Write parameter files and load them with the project's loader."""

    def load(files: dict[str, str], **runtime_params: object) -> dict:
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
    "base/parameters/tasks.yml": "effusion: {training: {epochs: 30}}",
}
DEMO = BASE | {"demo/parameters/defaults.yml": "defaults: {training: {epochs: 2}, sources: {images: null}}"}
BASE |= {"demo/parameters/other.yml": "other: 1"}


@pytest.mark.parametrize(
    ("files", "runtime_params", "epochs"),
    [(BASE, {}, 30), (DEMO, {}, 2), (DEMO, {"effusion": {"training": {"epochs": 1}}}, 1)],
    ids=["task", "environment", "command line"],
)
def test_defaults_task_environment_and_command_line_override_each_other(load, files, runtime_params, epochs) -> None:
    parameters = load(files, **runtime_params)
    assert parameters["effusion"]["training"] == {"epochs": epochs, "seed": 1}
    assert parameters["effusion"]["sources"] == {"images": {"path": "x"} if files is BASE else None}
    assert "defaults" not in parameters


BLOCKS = [
    *("task", "sources", "ingestion", "resolution", "morphology", "splitting", "resampling", "augmentation"),
    *("model", "training", "thresholds", "evaluation", "parallel", "ablation", "sanity", "tuning"),
    *("scoring", "subgroups", "drift", "retraining"),
]


@pytest.fixture(scope="module")
def shipped():
    """Validate the parameters in ``conf/`` of an environment."""

    @functools.cache
    def load(env: str) -> dict[str, dict]:
        loader = TaskConfigLoader(str(CONF), env=env, **settings.CONFIG_LOADER_ARGS)
        parameters = loader["parameters"]
        config.Folders(**parameters["folders"])
        types = {name: config.Network if name == "model" else getattr(config, name.title()) for name in BLOCKS}
        return {
            task: {name: types[name].model_validate(values) for name, values in parameters[task].items()}
            for task in config.TASKS
        }

    return load


@pytest.mark.parametrize("env", ["base", "demo"])
@pytest.mark.parametrize("task", config.TASKS)
def test_every_task_has_all_parameters_its_sources_and_possible_policies(shipped, env, task) -> None:
    parameters = shipped(env)[task]
    assert set(parameters) == set(BLOCKS)
    assert parameters["task"].name == task
    assert {source.layout == "phantoms" for source in parameters["sources"].root.values()} == {env == "demo"}
    thresholds = parameters["thresholds"]
    rules = {policy.rule for policy in (thresholds.policy, *thresholds.compared)}
    assert ARGMAX not in rules or parameters["task"].exclusive


@pytest.mark.parametrize("task", config.TASKS)
def test_phantoms_have_every_class_of_a_task(shipped, task) -> None:
    parameters = shipped("demo")[task]
    prevalences = next(iter(parameters["sources"].root.values())).prevalence
    assert prevalences.keys() <= set(FINDINGS)
    shown = {finding for finding, prevalence in prevalences.items() if prevalence > 0} | {"No Finding"}
    labels = parameters["task"].labels
    assert {labels.class_of(finding) for finding in shown} >= set(parameters["task"].outputs)


@pytest.mark.parametrize("env", ["base", "demo"])
@pytest.mark.parametrize("task", config.TASKS)
def test_every_cell_of_an_ablation_in_conf_is_valid(task, env) -> None:
    parameters = TaskConfigLoader(str(CONF), env=env, **settings.CONFIG_LOADER_ARGS)["parameters"][task]
    assert len(check_cells(task, parameters, config.Ablation(**parameters["ablation"]))) >= 5


def test_the_ablation_of_abnormality_has_twelve_models() -> None:
    parameters = TaskConfigLoader(str(CONF), env="base", **settings.CONFIG_LOADER_ARGS)["parameters"]["abnormality"]
    cells = config.Ablation(**parameters["ablation"]).overrides()
    kinds = {(cell["model"]["name"], "augmentation" in cell, cell["training"]["monitor"]) for cell in cells.values()}
    assert len(cells) == len(kinds) == 12
