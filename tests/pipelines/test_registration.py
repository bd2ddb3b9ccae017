"""Decisions whether a registered version becomes the first champion."""

import pytest
from shipped import parameters_of

from cxr_pipeline.framework import config
from cxr_pipeline.pipelines import registration as nodes
from cxr_pipeline.tracking import aliases

MODEL = "cxr-effusion"
VERSION = {"name": MODEL, "version": 4, "uri": f"models:/{MODEL}/4", "run_id": "r", "digest": "d"}
EVALUATION = config.Evaluation.model_validate(parameters_of()["evaluation"])
RETRAINING = config.Retraining.model_validate(parameters_of()["retraining"])


def metrics(specificity):
    names = {"auc": 0.9, "sensitivity": 0.75, "specificity": specificity, "balanced_accuracy": 0.75}
    measured = {name: {"value": value, "low": None, "high": None} for name, value in names.items()}
    about = {"task": "effusion", "phantom": False, "n_images": 9, "n_patients": None, "images_digest": "i"}
    return about | {"metrics": measured}


@pytest.mark.parametrize(("specificity", "promoted"), [(0.5, True), (0.25, False)])
def test_the_first_version_that_reaches_the_floors_becomes_the_champion(calls, monkeypatch, specificity, promoted):
    monkeypatch.setattr(aliases, "aliases_of", lambda model: {"champion": None})
    files, promotion = nodes.decide_first_champion(VERSION, metrics(specificity), EVALUATION, RETRAINING)
    assert promotion["promoted"] is promoted
    page = next(text for name, text in files.items() if name.endswith(".md"))
    assert f"# {MODEL} 4: {'promoted' if promoted else 'not promoted'}" in page
    assert "kedro run --pipeline=effusion" in page
    nodes.make_champion(promotion)
    reasons = promotion["reasons"]
    assert ("does not reach its floor of 0.500" in " ".join(reasons)) is not promoted
    assert calls == [
        ("log_texts", files, "decisions", {}),
        ("note_reasons", MODEL, 4, reasons, {}),
        *([("promote", MODEL, 4, {"over": None})] if promoted else []),
        ("note_decision", MODEL, 4, {"promoted": promoted}),
    ]


def test_a_champion_stays(calls):
    files, promotion = nodes.decide_first_champion(VERSION, metrics(0.9), EVALUATION, RETRAINING)
    assert files == {}
    assert nodes.make_champion(promotion) == {"champion": 3}
    assert calls == []
