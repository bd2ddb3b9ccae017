from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxr_pipeline.config_loader import TaskConfigLoader, lay_over

blocks = st.recursive(
    st.dictionaries(st.sampled_from("abc"), st.integers(), max_size=3),
    lambda inner: st.dictionaries(st.sampled_from("abc"), st.integers() | inner, max_size=3),
)


@given(below=blocks, above=blocks)
def test_laying_over_keeps_every_value_of_the_upper_block(below: dict, above: dict) -> None:
    before = repr((below, above))
    merged = lay_over(below, above)
    assert lay_over(merged, above) == merged
    assert set(merged) == set(below) | set(above)
    assert repr((below, above)) == before


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
    "base/parameters/defaults.yml": "defaults: {training: {epochs: 20, seed: 1}, sources: {films: {path: x}}}",
    "base/parameters/tasks.yml": "effusion: {training: {epochs: 30}}",
    "demo/parameters/defaults.yml": "defaults: {training: {epochs: 2}, sources: {films: null}}",
}


def test_a_task_is_laid_over_the_defaults(load) -> None:
    files = {**BASE, "demo/parameters/defaults.yml": "other: 1"}
    assert load(files)["effusion"]["training"] == {"epochs": 30, "seed": 1}


def test_the_environment_is_laid_over_the_task(load) -> None:
    parameters = load(BASE)
    assert parameters["effusion"]["training"] == {"epochs": 2, "seed": 1}
    assert parameters["effusion"]["sources"] == {"films": None}


def test_the_command_line_has_the_last_word_and_leaves_siblings_alone(load) -> None:
    parameters = load(BASE, effusion={"training": {"epochs": 1}})
    assert parameters["effusion"]["training"] == {"epochs": 1, "seed": 1}


def test_the_defaults_are_no_task(load) -> None:
    assert "defaults" not in load(BASE)
