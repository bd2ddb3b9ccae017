"""Files of different runs are never combined, even after partial or killed runs."""

import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kedro.framework.hooks.manager import _create_hook_manager, _register_hooks
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node, Pipeline
from kedro.runner import SequentialRunner

from cxr_pipeline.common.errors import Terminated, UserError
from cxr_pipeline.common.mappings import json_digest
from cxr_pipeline.framework.datasets import FileDataset
from cxr_pipeline.framework.hooks import Consistency, consistency

# Each dataset and its inputs, like the stages of a task.
STAGES = {
    "manifest": ["params:sources"],
    "enhanced_images": ["manifest", "params:morphology"],
    "splits": ["manifest", "params:splitting"],
    "model": ["enhanced_images", "splits", "params:training"],
    "decision_rule": ["model", "enhanced_images", "splits", "params:thresholds"],
    "metrics": ["model", "decision_rule", "enhanced_images", "splits"],
    "version": ["model", "decision_rule", "enhanced_images", "metrics"],
}
PARAMETERS = ("sources", "morphology", "splitting", "training", "thresholds")


def stage(name, inputs):
    """Make a node whose output contains all its inputs."""

    def function(*values):
        return dict(zip(inputs, values, strict=True))

    return Node(function, inputs=inputs, outputs=name, name=name)


TASK = Pipeline([stage(name, inputs) for name, inputs in STAGES.items()], namespace="chest")


class Project:
    """A folder in which parts of the pipeline run with different parameters."""

    def __init__(self, folder):
        self.folder = folder

    def run(self, parameters, *, first="manifest", last="version"):
        names = list(STAGES)
        part = names[names.index(first) : names.index(last) + 1]
        files = {f"chest.{name}": FileDataset(filepath=str(self.folder / f"{name}.json")) for name in STAGES}
        catalog = DataCatalog(
            files | {f"params:chest.{name}": MemoryDataset(value) for name, value in parameters.items()}
        )
        hook = Consistency()
        hook._config_loader, hook._env = Loader(self.folder), "demo"
        manager = _create_hook_manager()
        _register_hooks(manager, (hook,))
        pipeline = TASK.filter(node_names=[f"chest.{name}" for name in part])
        manager.hook.before_pipeline_run(run_params={}, pipeline=pipeline, catalog=catalog)
        SequentialRunner().run(pipeline, catalog, manager)

    def content(self, name):
        return FileDataset(filepath=str(self.folder / f"{name}.json")).load()


class Loader(dict[str, Any]):
    """A config loader of a project with the given data folder."""

    runtime_params = None

    def __init__(self, folder):
        super().__init__(globals={"data": str(folder)})


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


DEFAULTS = dict.fromkeys(PARAMETERS, 0)


def versions(content, name):
    """Yield every version of a dataset in the inputs of another."""
    if isinstance(content, dict):
        for key, value in content.items():
            if key == name:
                yield value
            yield from versions(value, name)


def test_outputs_made_again_with_equal_content_still_match(project):
    project.run(DEFAULTS)
    project.run(DEFAULTS, last="splits")
    project.run(DEFAULTS | {"thresholds": 1}, first="decision_rule")
    assert project.content("version")["decision_rule"]["params:thresholds"] == 1


def test_a_file_replaced_by_hand_is_detected(project):
    project.run(DEFAULTS)
    (project.folder / "decision_rule.json").write_text("{}")
    with pytest.raises(UserError, match=r"chest\.decision_rule has changed since a run recorded"):
        project.run(DEFAULTS, first="metrics")


@pytest.mark.parametrize("damage", [lambda text: "{", lambda text: re.sub(r'"digest": *"\w+"', '"digest": 5', text)])
def test_a_damaged_record_does_not_stop_a_run(project, damage):
    project.run(DEFAULTS)
    record = project.folder / "02_intermediate" / "chest" / "origins.json"
    assert record.read_text() != damage(record.read_text())
    record.write_text(damage(record.read_text()))
    project.run(DEFAULTS, first="version")


runs = st.fixed_dictionaries(
    {
        "parameters": st.fixed_dictionaries({name: st.integers(0, 1) for name in PARAMETERS}),
        "part": st.tuples(st.sampled_from(list(STAGES)), st.sampled_from(list(STAGES))),
        # The run is killed after this dataset is saved and before its origin is recorded.
        "killed_at": st.none() | st.sampled_from(list(STAGES)),
    }
)


@settings(max_examples=40)
@given(st.lists(runs, max_size=5))
def test_a_registered_version_comes_from_consistent_files(sequence):
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        project = Project(Path(folder))
        project.run(DEFAULTS)
        add = consistency.Origins.add
        for run in sequence:
            names = list(STAGES)
            first, last = sorted(run["part"], key=names.index)

            def killed(self, name, *arguments, at=run["killed_at"]):
                if name == f"chest.{at}":
                    raise Terminated
                add(self, name, *arguments)

            patch.setattr(consistency.Origins, "add", killed)
            try:
                project.run(run["parameters"], first=first, last=last)
            except (UserError, Terminated):
                continue
            if last == "version":
                version = project.content("version")
                for name in list(STAGES)[:-1]:
                    first_content, *others = versions(version, name)
                    assert all(content == first_content for content in others)


def test_reported_parameters_must_be_those_of_the_training():
    made_from = {"params:chest.training": json_digest({"epochs": 3}), "chest.manifest": "0"}
    check = Consistency()._check_parameters
    check(made_from, "chest", {"training": {"epochs": 3}, "tuning": {}})
    with pytest.raises(UserError, match=r"The parameters chest\.training have changed"):
        check(made_from, "chest", {"training": {"epochs": 4}})
