import subprocess
import sys

import pytest

from cxr_pipeline.config import TASKS
from cxr_pipeline.pipeline_registry import STAGES, register_pipelines


@pytest.fixture(scope="module")
def pipelines():
    return register_pipelines()


@pytest.mark.parametrize("task", TASKS)
def test_a_task_has_all_stages_in_order_and_the_task_is_the_outer_namespace(pipelines, task) -> None:
    order = list(dict.fromkeys(node.namespace for node in pipelines[task].nodes))
    stages = [f"{task}.{stage.__name__.rsplit('.', 1)[1]}" for stage in STAGES]
    assert sorted(order) == sorted(stages)
    assert order[0] == f"{task}.ingestion"
    assert order[-1] == f"{task}.registration"


@pytest.mark.parametrize("task", TASKS)
def test_a_task_needs_nothing_but_parameters_and_its_own_ledger(pipelines, task) -> None:
    free = {name for name in pipelines[task].inputs() if not name.startswith("params:")}
    assert free == {f"{task}.earlier_splits", "parameters"}


def test_bare_stages_are_not_registered(pipelines) -> None:
    assert set(pipelines) == {"__default__", *TASKS, *(f"{task}_scoring" for task in TASKS)}


def test_naming_the_pipelines_starts_neither_tensorflow_nor_scikit_learn() -> None:
    code = (
        "import sys; from cxr_pipeline.pipeline_registry import register_pipelines; register_pipelines();"
        "print([name for name in ('tensorflow', 'keras', 'sklearn', 'matplotlib', 'pandera', 'mlflow') if name in sys.modules])"
    )
    started = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert started.stdout.strip() == "[]"
