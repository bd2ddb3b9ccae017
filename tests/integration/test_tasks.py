"""A small demo run of every task but the first, which ``test_demo_run`` covers."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from demo_projects import arguments, runs, succeeded
from shipped import TASKS

SMALL = "{0}.sources.phantoms.n_patients=150,{0}.training.epochs=2,{0}.evaluation.replicates=100,{0}.resolution.size="
# One task has the smallest images, with the pooling of the default configuration; two have ensembles.
SIZES = {
    "ailments": "16,{0}.model.pooling=multilevel,{0}.training.folds=2",
    "chest14": "32,{0}.training.folds=3,{0}.evaluation.views=2",
}
FOLDS = {"ailments": 2, "chest14": 3}
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
    assert metrics.get("cross_validation", {}).get("folds", 1) == FOLDS.get(task, 1)
    assert ("majority" in metrics) == (kind == "multiclass")
    if task == "abnormality":
        assert [entry["policy"]["rule"] for entry in metrics["policies"]] == ["youden", "fixed", "fixed"]
    report = pd.read_csv(reporting / "classification_report.csv")
    assert outputs <= set(report["class"])
    explanations = json.loads((reporting / "explanations.json").read_text())
    assert explanations["localisation"].keys() <= outputs
    assert explanations["localisation"]
    report = (reporting / "report.html").read_text()
    assert "Heat maps" in report
    assert ("Cross-validation" in report) == (task in FOLDS)


def test_scoring_an_ensemble_with_views_gives_the_probabilities_of_the_test(project, kedro, tmp_path):
    params = f"{SMALL}32,{{0}}.training.folds=3,{{0}}.evaluation.views=3".format("effusion")
    trained = succeeded(kedro(project, *arguments("effusion", f"{params},effusion.parallel.workers=2")))
    assert trained.count("2 epochs were already trained") == 3, "The networks were not trained in other processes."
    nested = [run.info.run_name[:9] for run in runs(project) if "mlflow.parentRunId" in run.data.tags]
    assert sorted(nested) == ["network 1", "network 2", "network 3"]
    data = project / "data" / "demo"
    scores = pd.read_parquet(data / "07_model_output/effusion/test_scores.parquet").set_index("image")
    for image in scores.index:
        shutil.copy(data / "01_raw/phantoms/images" / image, tmp_path)
    succeeded(kedro(project, *arguments("effusion_scoring", f"{params},effusion.scoring.folder={tmp_path}")))
    predictions = pd.read_csv(data / "07_model_output/effusion/predictions.csv").set_index("image")
    np.testing.assert_allclose(predictions["probability"][scores.index], scores["probability_effusion"], atol=1e-6)
