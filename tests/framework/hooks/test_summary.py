from pathlib import Path

import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node, Pipeline

from cxr_pipeline.framework import hooks
from cxr_pipeline.framework.datasets.files import FileDataset

BINARY = {
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


@pytest.fixture
def summary(tmp_path, capsys, monkeypatch):
    """Return the output at the end of a run of the task ``t``."""

    def printed(
        metrics: dict[str, object],
        *,
        folder: Path = tmp_path,
        output="t.report",
        width=300,
        warnings=(),
        promotion=None,
    ) -> str:
        monkeypatch.setenv("COLUMNS", str(width))
        catalog = DataCatalog(
            {
                "t.metrics": MemoryDataset(metrics),
                "t.model_version": MemoryDataset({"name": "cxr-t", "version": 3}),
                "t.warnings": MemoryDataset(list(warnings)),
                "t.promotion": MemoryDataset(promotion),
                "t.report": FileDataset(filepath=folder / "report.html"),
            }
        )
        outputs = [output, "t.promotion"] if promotion else output
        node = Node(lambda: 1, inputs=None, outputs=outputs, name="register", namespace="t")
        hooks.Summary().after_pipeline_run(Pipeline([node]), catalog)
        return " ".join(capsys.readouterr().out.split())

    return printed


def test_a_binary_run_that_registers_a_model_ends_with_metrics_and_threshold(summary) -> None:
    text = summary(BINARY)
    for words in (
        *("t (12 test images)", "AUC │ 0.750 (0.500 to 0.875)", "sensitivity │ 0.125 │", "specificity │ not defined"),
        *("ill 0.375", "report.html", "cxr-t 3"),
    ):
        assert words in text
    assert "mean" not in text
    assert summary(BINARY, output="t.metrics") == ""


def test_a_run_of_several_classes_ends_with_means_and_the_majority_baseline(summary) -> None:
    several = BINARY | {"thresholds": {"well": 0.25, "ill": 0.375, "worse": 0.5}, "phantom": True}
    text = summary(several | {"majority": {"class": "well", "accuracy": 0.5}})
    for words in ("phantom images", "mean AUC │ 0.750", "accuracy │ 0.625 (0.250 to 0.750)", "predicting well │ 0.500"):
        assert words in text
    assert "threshold" not in text
    assert "accuracy" not in summary(several)


def test_the_path_of_the_report_is_on_one_line_in_a_narrow_terminal(summary, tmp_path) -> None:
    folder = tmp_path / "[bold] names" / ("deep_" * 20)
    assert f"report: {folder / 'report.html'}" in summary(BINARY, folder=folder, width=50)


def test_the_warnings_of_the_report_are_shown(summary) -> None:
    text = summary(BINARY, warnings=["The model has collapsed [1].", "Few test images: 1 labelled ill."])
    assert "warning: The model has collapsed [1]. warning:" in text
    assert "warning: Few test images: 1 labelled ill. " in text
    assert "warning:" not in summary(BINARY)


def test_scoring_ends_with_counts_and_the_path_of_the_predictions(tmp_path, capsys) -> None:
    record = {"n_images": 1203, "n_scored": 1200, "decisions": {"ill": 1200}, "refused": {"empty": 1, "unreadable": 2}}
    datasets = {
        "t.scoring_record": MemoryDataset(record | {"flagged": {}}),
        "t.predictions": FileDataset(filepath=tmp_path / "predictions.json"),
    }
    node = Node(lambda: 1, inputs=None, outputs=["t.predictions", "t.scoring_record"], name="score", namespace="t")
    hooks.Summary().after_pipeline_run(Pipeline([node]), DataCatalog(datasets))
    assert capsys.readouterr().out.splitlines() == [
        "1,203 images: 1,200 scored (ill 1,200), 3 refused (empty 1, unreadable 2)",
        f"predictions: {tmp_path}/predictions.json",
    ]


def test_completed_nodes_are_counted(caplog) -> None:
    nodes = [Node(lambda: 1, inputs=None, outputs=name, name=name) for name in ("a", "b")]
    hook = hooks.Summary()
    hook.before_pipeline_run(Pipeline(nodes))
    with caplog.at_level("INFO"):
        for node in nodes:
            hook.after_node_run(node)
    assert caplog.messages == ["Completed a (1 of 2)", "Completed b (2 of 2)"]


@pytest.mark.parametrize(
    ("promoted", "line"),
    [
        (True, "champion: cxr-t 3. AUC reaches its floor."),
        (
            False,
            "champion: none. AUC reaches its floor. To make cxr-t 3 the champion: kedro promote t 3",
        ),
        (None, ""),
    ],
)
def test_a_run_says_whether_its_version_is_the_first_champion(summary, promoted, line) -> None:
    record = {"model": "cxr-t", "task": "t", "phantom": False, "challenger": {"version": 3}, "promoted": promoted}
    decided = {"decision": "as it is", "reasons": ["AUC reaches its floor."]} if promoted is not None else {}
    text = summary(BINARY, promotion=record | decided)
    assert line in text
    assert ("champion" in text) is (promoted is not None)
