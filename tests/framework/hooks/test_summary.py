from pathlib import Path

import pandas as pd
import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node, Pipeline

from cxr_pipeline.framework import hooks
from cxr_pipeline.framework.datasets import FileDataset, TableDataset

METRICS = {
    "task": "t",
    "phantom": False,
    "n_images": 12,
    "thresholds": {"ill": 0.375},
    "metrics": {
        "auc": {"value": 0.75, "low": 0.5, "high": 0.875},
        "accuracy": {"value": 0.625, "low": 0.25, "high": 0.75},
        "sensitivity": {"value": 0.125, "low": None, "high": None},
        "specificity": {"value": None, "low": None, "high": None},
    },
}
SEVERAL = METRICS | {"thresholds": {"well": 0.25, "ill": 0.375, "worse": 0.5}, "phantom": True}
MAJORITY = SEVERAL | {"majority": {"class": "well", "accuracy": 0.5}}
RECORD = {"n_images": 1203, "n_scored": 1200, "decisions": {"ill": 1200}, "refused": {"empty": 1, "unreadable": 2}}
DECISION = {
    **{"decision": "as it is", "reasons": ["AUC reaches its floor."], "model": "cxr-t", "task": "t"},
    **{"phantom": False, "challenger": {"version": 3}},
}
# A folder with a long name, and square brackets, which are markup elsewhere.
DEEP = Path("[bold] names", "deep_" * 20)


@pytest.fixture
def printed(tmp_path, capsys, monkeypatch):
    """Return the output at the end of a run of the task ``t`` with some datasets, in a narrow terminal."""
    monkeypatch.setenv("COLUMNS", "80")

    def printed(*outputs, **datasets):
        datasets = {"metrics": METRICS, "model_version": {"name": "cxr-t", "version": 3}, "warnings": [], **datasets}
        catalog = DataCatalog({f"t.{name}": MemoryDataset(content) for name, content in datasets.items()})
        catalog["t.report"] = FileDataset(filepath=tmp_path / DEEP / "report.html")
        catalog["t.best_parameters"] = FileDataset(filepath=tmp_path / "best parameters.yml")
        catalog["t.quarantine"] = TableDataset(filepath=tmp_path / "quarantine.csv")
        catalog["t.predictions"] = FileDataset(filepath=tmp_path / "predictions.json")
        node = Node(lambda: 1, inputs=None, outputs=[f"t.{name}" for name in outputs], name="register", namespace="t")
        hooks.Summary().after_pipeline_run(Pipeline([node]), catalog)
        return capsys.readouterr().out

    return printed


@pytest.mark.parametrize(
    ("datasets", "words", "absent"),
    [
        (
            {},
            [
                *("t (12 test images)", "AUC │ 0.750 (0.500 to 0.875)", "sensitivity │ 0.125 │"),
                *("specificity │ not defined", "ill 0.375", "cxr-t 3", str(DEEP / "report.html")),
                "To predict images: kedro predict t IMAGE... To compare runs and versions: kedro mlflow ui",
            ],
            ["mean", "warning:", "champion"],
        ),
        (
            {"metrics": MAJORITY},
            ["phantom images", "mean AUC │ 0.750", "accuracy │ 0.625 (0.250 to 0.750)", "predicting well │ 0.500"],
            ["threshold"],
        ),
        ({"metrics": SEVERAL}, ["mean AUC │ 0.750"], ["accuracy"]),
        (
            {"warnings": ["The model has collapsed [1].", "Few test images: 1 labelled ill."]},
            ["warning: The model has collapsed [1]. warning: Few test images: 1 labelled ill. "],
            [],
        ),
        (
            {"promotion": DECISION | {"promoted": True}},
            ["champion: cxr-t 3. AUC reaches its floor."],
            ["kedro promote"],
        ),
        (
            {"promotion": DECISION | {"promoted": False}},
            ["champion: none. AUC reaches its floor. To make cxr-t 3 the champion: kedro promote t 3"],
            [],
        ),
        ({"promotion": {"model": "cxr-t"}}, ["cxr-t 3"], ["champion"]),
    ],
)
def test_a_run_that_registers_a_version_ends_with_a_summary(printed, datasets, words, absent):
    text = " ".join(printed("report", *({"promotion"} & datasets.keys()), **datasets).split())
    assert [word for word in words if word not in text] == []
    assert [word for word in absent if word in text] == []


def test_other_runs_end_with_what_they_wrote(printed, tmp_path):
    assert printed("metrics") == ""
    counts = {"rows_in_source": 240, "not_on_disk": 31, "left_out": {}}
    splits = pd.DataFrame({"split": ["train", "test"] * 100})
    pd.DataFrame({"image": list("abcdefghi")}).to_csv(tmp_path / "quarantine.csv", index=False)
    tables = {"source_counts": {"images": counts}, "splits": splits}
    assert printed(*tables, "quarantine", **tables) == (
        f"240 images: 31 not on disk, 9 refused ({tmp_path}/quarantine.csv); train 100, validation 0, test 100\n"
    )
    step = "To train with the best parameters: kedro run --config '{}/best parameters.yml'\n"
    assert printed("best_parameters") == step.format(tmp_path)
    assert printed("predictions", "scoring_record", scoring_record=RECORD | {"flagged": {}}).splitlines() == [
        "1,203 images: 1,200 scored (ill 1,200), 3 refused (empty 1, unreadable 2)",
        f"predictions: {tmp_path}/predictions.json",
    ]
