import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import yaml

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.experiments.task_run import RunOutputs, TaskRun

RUN = TaskRun(
    task="effusion",
    project="/p",
    cwd="/h",
    conf_source="/p/conf",
    env="demo",
    runtime_params={
        "raw": "/data, images",
        "effusion": {"training": {"epochs": 3, "learning_rate": 1.0}, "parallel": {"workers": 1}},
    },
    parameters={"training": {"epochs": 3, "learning_rate": 1.0, "loss": "focal"}},
    tracking_uri="http://127.0.0.1:5000",
    run_id="7",
)


def test_a_child_is_the_same_run_with_its_own_folder_and_parameters():
    changes = {"training": {"epochs": 9}}
    child = RUN.child("a cell", folder=Path("/f"), to_output="metrics", overrides=changes)
    assert child.runtime_params["raw"] == "/data, images"
    assert child.runtime_params["effusion"]["training"] == {"epochs": 9, "learning_rate": 1.0}
    assert child.runtime_params["cell"] == {"name": "a cell", "folder": "/f", "parent_run": "7"}
    assert child.parameters["training"] == {"epochs": 9, "learning_rate": 1.0, "loss": "focal"}
    same = {"runtime_params": RUN.runtime_params, "parameters": RUN.parameters, "to_output": RUN.to_output}
    assert replace(child, **same) == RUN
    assert TaskRun(**json.loads(json.dumps(asdict(child)))) == child


def test_a_config_file_names_another_configuration_folder_and_does_not_renew_the_splits():
    given = {"effusion": {"splitting": {"renew": True, "seed": 3}}}
    run = replace(RUN, env=None, conf_source="/elsewhere", runtime_params=given)
    section = yaml.safe_load(run.config_file({"splitting": {"seed": 4}, "model": {"dropout": 0}}, origin="x"))["run"]
    params = {"effusion": {"splitting": {"seed": 4}, "model": {"dropout": 0}}}
    assert section == {"pipelines": "effusion", "conf_source": "/elsewhere", "params": params}
    assert run.runtime_params["effusion"]["splitting"]["renew"]


@pytest.mark.parametrize("damage", [b"", b"\xff\xff", None], ids=["empty", "no text", "missing"])
@pytest.mark.parametrize("name", ["model_version", "metrics", "history", "splits", "test_scores", "manifest"])
def test_damaged_outputs_of_a_run_are_named(tmp_path, name, damage):
    outputs = RunOutputs(tmp_path, "effusion")
    if damage is not None:
        outputs.path(name).parent.mkdir(parents=True)
        outputs.path(name).write_bytes(damage)
    with pytest.raises(UserError, match=rf"^{tmp_path}/.* Delete {tmp_path} and run the same command again"):
        outputs.load(name)
