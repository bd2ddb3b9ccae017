"""A small demo run of every task but the first, which ``test_demo_run`` covers."""

import json

import pandas as pd
import pytest
from demo_projects import arguments, succeeded
from shipped import TASKS

SMALL = "{0}.sources.phantoms.n_patients=150,{0}.training.epochs=2,{0}.evaluation.replicates=100,{0}.resolution.size="
# One task has the smallest images, with the pooling of the default configuration.
SIZES = {"ailments": "16,{0}.model.pooling=multilevel"}
KINDS = {
    "pneumonia": ("binary", {"pneumonia"}),
    "ailments": ("multiclass", {"normal", "pneumonia", "mass", "nodule"}),
    "findings": (
        "multiclass",
        {"No Finding", "Cardiomegaly", "Effusion", "Mass", "Nodule", "Pneumonia", "Pneumothorax"},
    ),
    "abnormality": ("binary", {"abnormal"}),
    "chest14": ("multilabel", {"Cardiomegaly", "Effusion", "Mass", "Nodule", "Pneumonia", "Pneumothorax"}),
}
QUICK = ("ailments", "chest14")


def test_every_task_is_covered():
    assert set(TASKS) == {"effusion", *KINDS}


# One multiclass and one multilabel task always run.
@pytest.mark.parametrize(
    "task", [*QUICK, *(pytest.param(task, marks=pytest.mark.slow) for task in KINDS if task not in QUICK)]
)
def test_a_task_runs_on_phantoms(project, kedro, task):
    params = f"{SMALL}{SIZES.get(task, 32)}".format(task)
    assert f"cxr-{task}-demo 1" in succeeded(kedro(project, *arguments(task, params)))
    reporting = project / "data" / "demo" / "08_reporting" / task
    metrics = json.loads((reporting / "metrics.json").read_text())
    kind, outputs = KINDS[task]
    assert metrics["kind"] == kind
    assert metrics["phantom"] is True
    assert set(metrics["thresholds"]) == set(metrics["per_class"]) == set(metrics["support"]) == outputs
    assert ("majority" in metrics) == (kind == "multiclass")
    if task == "abnormality":
        assert [entry["policy"]["rule"] for entry in metrics["policies"]] == ["youden", "fixed", "fixed"]
    report = pd.read_csv(reporting / "classification_report.csv")
    assert outputs <= set(report["class"])
    explanations = json.loads((reporting / "explanations.json").read_text())
    assert explanations["localisation"].keys() <= outputs
    assert explanations["localisation"]
    assert "Heat maps" in (reporting / "report.html").read_text()
