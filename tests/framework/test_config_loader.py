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
    """Write files of parameters and load them with the project's loader."""

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
    "demo/parameters/defaults.yml": "defaults: {training: {epochs: 2}, sources: {images: null}}",
}


def test_a_task_is_laid_over_the_defaults(load) -> None:
    files = {**BASE, "demo/parameters/defaults.yml": "other: 1"}
    assert load(files)["effusion"]["training"] == {"epochs": 30, "seed": 1}


def test_the_environment_is_laid_over_the_task(load) -> None:
    parameters = load(BASE)
    assert parameters["effusion"]["training"] == {"epochs": 2, "seed": 1}
    assert parameters["effusion"]["sources"] == {"images": None}


def test_the_command_line_has_the_last_word_and_leaves_siblings_alone(load) -> None:
    parameters = load(BASE, effusion={"training": {"epochs": 1}})
    assert parameters["effusion"]["training"] == {"epochs": 1, "seed": 1}


def test_the_defaults_are_no_task(load) -> None:
    assert "defaults" not in load(BASE)


def test_a_class_is_switched_off_by_an_environment(load) -> None:
    files = {
        **BASE,
        "base/parameters/tasks.yml": "findings: {task: {classes: {Mass: [Mass], Hernia: [Hernia]}}}",
        "demo/parameters/tasks.yml": "findings: {task: {classes: {Hernia: null}}}",
    }
    assert load(files)["findings"]["task"]["classes"] == {"Mass": ["Mass"], "Hernia": None}


BLOCKS = {
    name: config.Network if name == "model" else getattr(config, name.title())
    for name in (
        "task",
        "sources",
        "ingestion",
        "resolution",
        "morphology",
        "splitting",
        "resampling",
        "augmentation",
        "model",
        "training",
        "thresholds",
        "evaluation",
        "parallel",
        "ablation",
        "sanity",
        "tuning",
        "scoring",
        "subgroups",
        "drift",
        "retraining",
    )
}


@pytest.fixture(scope="module")
def shipped():
    """The parameters of an environment as the project ships them, built as models."""

    @functools.cache
    def load(env: str) -> dict[str, dict]:
        loader = TaskConfigLoader(str(CONF), env=env, **settings.CONFIG_LOADER_ARGS)
        parameters = loader["parameters"]
        config.Folders(**parameters["folders"])
        return {
            task: {name: BLOCKS[name].model_validate(values) for name, values in parameters[task].items()}
            for task in config.TASKS
        }

    return load


@pytest.mark.parametrize("env", ["base", "demo"])
@pytest.mark.parametrize("task", config.TASKS)
class TestEveryTaskThatIsShipped:
    def test_has_all_its_parameters(self, shipped, env, task) -> None:
        parameters = shipped(env)[task]
        assert parameters.keys() == BLOCKS.keys()
        assert parameters["task"].name == task

    def test_reads_images_or_phantoms_but_not_both(self, shipped, env, task) -> None:
        sources = shipped(env)[task]["sources"]
        assert {source.layout == "phantoms" for source in sources.root.values()} == {env == "demo"}

    def test_decides_in_a_way_that_its_kind_allows(self, shipped, env, task) -> None:
        parameters = shipped(env)[task]
        thresholds = parameters["thresholds"]
        rules = {policy.rule for policy in (thresholds.policy, *thresholds.compared)}
        assert ARGMAX not in rules or parameters["task"].exclusive


@pytest.mark.parametrize("task", config.TASKS)
def test_phantoms_show_what_a_task_asks_for(shipped, task) -> None:
    parameters = shipped("demo")[task]
    drawn = next(iter(parameters["sources"].root.values())).prevalence
    assert drawn.keys() <= set(FINDINGS)
    shown = {finding for finding, prevalence in drawn.items() if prevalence > 0} | {"No Finding"}
    labels = parameters["task"].labels
    assert {labels.class_of(finding) for finding in shown} >= set(parameters["task"].outputs)


@pytest.mark.parametrize("env", ["base", "demo"])
@pytest.mark.parametrize("task", config.TASKS)
def test_every_cell_of_the_ablations_that_are_shipped_can_be_run(task, env) -> None:
    parameters = TaskConfigLoader(str(CONF), env=env, **settings.CONFIG_LOADER_ARGS)["parameters"][task]
    assert len(check_cells(task, parameters, config.Ablation(**parameters["ablation"]))) >= 5


def test_the_twelve_models_of_abnormality_are_shipped() -> None:
    parameters = TaskConfigLoader(str(CONF), env="base", **settings.CONFIG_LOADER_ARGS)["parameters"]["abnormality"]
    cells = config.Ablation(**parameters["ablation"]).overrides()
    kinds = {(cell["model"]["name"], "augmentation" in cell, cell["training"]["monitor"]) for cell in cells.values()}
    assert len(cells) == len(kinds) == 12
