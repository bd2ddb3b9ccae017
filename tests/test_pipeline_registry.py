import subprocess
import sys

import pytest
from shipped import TASKS

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.pipeline_registry import STAGES, register_pipelines


def test_a_task_has_all_stages_in_order_and_needs_only_parameters_and_its_own_ledger():
    pipelines = register_pipelines()
    fitted = STAGES.index("thresholds") + 1
    for task in TASKS:
        order = list(dict.fromkeys(node.namespace.removeprefix(f"{task}.") for node in pipelines[task].nodes))
        assert sorted(order) == sorted(STAGES)
        assert tuple(order[:fitted]) == STAGES[:fitted]
        assert order.index("evaluation") < min(order.index("registration"), order.index("reporting"))
        free = {name for name in pipelines[task].inputs() if not name.startswith("params:")}
        assert free == {f"{task}.earlier_splits", "parameters", "current_run"}


@pytest.mark.parametrize("names", [("effusion", "comparison"), ("effusion_tuning", "effusion"), ("folders",)])
def test_a_task_cannot_have_the_name_of_another_pipeline_or_parameter(names, monkeypatch):
    monkeypatch.setattr("cxr_pipeline.pipeline_registry.task_names", lambda: names)
    with pytest.raises(UserError, match="cannot be the name of a task: there is another '"):
        register_pipelines()


HEAVY = {"tensorflow", "keras", "sklearn", "optuna", "matplotlib", "dask"}


@pytest.mark.parametrize(
    ("arguments", "said"), [(["registry", "list"], "- effusion_scoring"), (["lineage", "--help"], "--patient ID")]
)
def test_kedro_lists_what_there_is_without_importing_large_libraries(project, arguments, said):
    # Kedro's settings loader accesses every module in sys.modules, and so would load lazy ones.
    code = (
        "import sys; from pathlib import Path; from kedro.framework.cli.cli import KedroCLI;"
        f"KedroCLI(Path.cwd())({arguments}, standalone_mode=False);"
        f"print('started', {HEAVY} & set(sys.modules))"
    )
    listed = subprocess.run([sys.executable, "-c", code], cwd=project, capture_output=True, text=True, check=True)
    assert said in listed.stdout
    assert listed.stdout.strip().endswith("started set()")
