import json
from typing import Any

import pytest

from cxr_pipeline.deployment.promotion import COMPARED, decide
from cxr_pipeline.report.pages.promotion_record import decision_files, decision_record, render_decision, stop_record

RULE = {"floors": {"auc": 0.6}, "sensitivity_margin": 0.05, "auc_margin": 0.02, "improvement": "better_or_newer"}
MEASURE = {"value": 0.875, "low": 0.8, "high": 0.9375}
METRICS: dict[str, Any] = {
    "task": "chest",
    "phantom": False,
    "n_images": 1234,
    "n_patients": 60,
    "images_digest": "f" * 64,
    "metrics": dict.fromkeys(COMPARED, MEASURE),
}
DIFFERENCE = {"value": 0.01, "low": -0.031, "high": 0.05, "p_value": 0.4}
CHAMPIONS = {"value": 0.865, "low": None, "high": None}
NOTHING = {"value": None, "low": None, "high": None, "p_value": None}
SIDES = ("challenger", "champion", "differences")
COMPARISON: dict[str, Any] = {
    "n_images": 1230,
    "n_patients": 59,
    "n_left_out": 4,
    "challenger": dict.fromkeys(COMPARED, MEASURE),
    "champion": dict.fromkeys(COMPARED, CHAMPIONS),
    "differences": dict.fromkeys(COMPARED, DIFFERENCE),
}


def record(comparison: dict[str, Any] | None, **metrics: Any) -> dict[str, Any]:
    found = {**METRICS, **metrics}
    differences = comparison["differences"] if comparison else None
    return decision_record(
        decide(found["metrics"], differences, **RULE, newer_data=True),
        comparison,
        challenger={"name": "cxr-chest", "version": 4, "uri": "models:/cxr-chest/4", "run_id": "r", "digest": "d"},
        metrics=found,
        changes={
            "model": "cxr-chest",
            "champion": 3 if comparison else None,
            "why": "Since the champion, cxr-chest 3: 9 new images.",
            "changes": {"new": 9, "relabelled": 0, "reassigned": 0, "gone": 0},
            "drift": None,
            "digest": "7" * 64,
        },
        rule=RULE,
        bootstrap={"replicates": 2000, "confidence": 0.95, "seed": 1},
    )


def test_a_record_has_what_was_compared_and_each_condition() -> None:
    page = render_decision(record(COMPARISON))
    assert page.startswith("# cxr-chest 4: not promoted\n")
    for sentence in (
        "the challenger cxr-chest 4, against the champion cxr-chest 3. The challenger was tested on 1,234 images of 60",
        "Since the champion, cxr-chest 3: 9 new images.",
        "- The lower end of the difference in AUC, -0.031, is not above -0.020.",
        "| floor of auc | 0.875 | 0.600 | met |",
        "| AUC not worse | -0.031 | -0.020 | not met |",
        "| sensitivity not worse | -0.031 | -0.050 | met |",
        "on the same 1,230 images of 59 patients; 4 images that only one of them could score are left out.",
        "| AUC | 0.875 (0.800 to 0.938) | 0.865 | +0.010 (-0.031 to +0.050) |",
        "95 % intervals from 2,000 bootstrap replicates, resampling patients",
        "Floors: auc 0.6. With a champion also: the lower bound of the difference in sensitivity is above -0.05, and",
    ):
        assert sentence in page
    assert "PHANTOM" not in page


def test_a_first_version_is_not_compared() -> None:
    found = record(None, phantom=True, n_patients=None)
    page = render_decision(found)
    assert page.startswith("# cxr-chest 4: promoted\n\n**PHANTOM IMAGES")
    assert "without a champion. The challenger was tested on 1,234 images whose patients are unknown." in page
    assert found["champion"] is found["compared_on"] is None
    assert "| AUC | 0.875 (0.800 to 0.938) |" in page


def test_undefined_metrics_are_named() -> None:
    nothing = dict.fromkeys(COMPARED, NOTHING)
    page = render_decision(
        record({"n_images": 1, "n_patients": None, "n_left_out": 0, **dict.fromkeys(SIDES, nothing)})
    )
    assert "| AUC | not defined | not defined | not defined |" in page
    assert "| AUC not worse | not defined | -0.020 | not met |" in page
    assert "resampling images" in page
    assert "left out" not in page


def test_the_files_are_named_after_the_time() -> None:
    found = record(COMPARISON) | {"decided_at": "2031-05-04T02:00:07+00:00"}
    files = decision_files(found)
    assert list(files) == ["2031-05-04T020007Z.md", "2031-05-04T020007Z.json"]
    assert json.loads(files["2031-05-04T020007Z.json"]) == json.loads(json.dumps(found))
    assert files["2031-05-04T020007Z.md"] == render_decision(found)


DRIFT = {
    "task": "chest",
    "title": "Chest",
    "phantom": True,
    "verdict": "refuse",
    "sentence": "Drift in pixels (noise, KS distance 0.95).",
    "n_new": 40,
    "alpha": 0.01,
    "limits": {"pixels": {"warn": 0.2, "refuse": 0.9}, "calibration": {"warn": 0.05, "refuse": None}},
    "families": [
        {
            "name": "pixels",
            "verdict": "refuse",
            "notes": [],
            "tests": [
                {
                    **{"name": name, "test": "Kolmogorov-Smirnov", "effect_name": "KS distance", "effect": effect},
                    **{"p_value": 0.0, "p_holm": 0.0, "n_reference": 50, "n_new": 40, "reference": 1.0, "new": 9.0},
                    "histogram": {"edges": [0.0, 5.0, 10.0], "reference": [1.0, 0.0], "new": [0.0, 1.0]},
                    "verdict": verdict,
                }
                for name, effect, verdict in (("noise", 0.95, "refuse"), ("black_border", 0.01, "none"))
            ],
        },
        {"name": "calibration", "verdict": "unknown", "notes": ["ill: too few to tell."], "tests": []},
    ],
    "model": {"uri": "models:/cxr-chest-demo/3", "name": "cxr-chest-demo", "version": 3},
    "new_images": {
        **{"place": "the sources", "images": 90, "left_out": 0, "without_patient": 0, "drawn": 40, "looked_at": 40},
        "refused": {},
    },
    "reference": {"stored": True, "training_images": 50, "validation_images": 40},
}
STOPPED: dict[str, Any] = {
    "task": "chest",
    "model": "cxr-chest-demo",
    "phantom": True,
    "champion": 3,
    "why": "Since the champion, cxr-chest-demo 3: 90 new images.",
    "changes": {"new": 90, "relabelled": 0, "reassigned": 0, "gone": 0},
    "stopped": "The new images are unlike. Nothing was trained.",
    "drift": DRIFT,
    "digest": "7" * 64,
}


def test_the_record_of_a_stop_has_the_reason_and_the_champion() -> None:
    found = stop_record(STOPPED)
    assert (found["decision"], found["promoted"], found["challenger"]) == ("stopped", False, None)
    page = render_decision(found)
    assert page.startswith("# cxr-chest-demo: stopped\n\n**PHANTOM IMAGES")
    for sentence in (
        "without training a challenger. The champion is still cxr-chest-demo 3",
        "Since the champion, cxr-chest-demo 3: 90 new images.",
        "- The new images are unlike. Nothing was trained.",
        "Verdict: refuse. Drift in pixels (noise, KS distance 0.95).",
        "| pixels | noise | KS distance | 0.950 | refuse |",
        "- ill: too few to tell.",
    ):
        assert sentence in page
    assert "black border" not in page


def test_the_drift_page_is_written_beside_the_record() -> None:
    files = decision_files(stop_record(STOPPED) | {"decided_at": "2031-05-04T02:00:07+00:00"})
    assert list(files) == ["2031-05-04T020007Z.md", "2031-05-04T020007Z.json", "2031-05-04T020007Z.drift.html"]
    assert "noise" in files["2031-05-04T020007Z.drift.html"]
    written = json.loads(files["2031-05-04T020007Z.json"])
    assert written["drift"]["families"][0]["tests"][0]["effect"] == 0.95
    assert "edges" not in files["2031-05-04T020007Z.json"]


def test_unknown_drift_is_recorded_without_a_page() -> None:
    unknown = {"verdict": "unknown", "sentence": "It has no profile.", "n_new": 0, "families": []}
    found = record(COMPARISON) | {"drift": unknown}
    assert "Verdict: unknown. It has no profile." in render_decision(found)
    assert len(decision_files(found)) == 2
    assert "Drift of" not in render_decision(record(COMPARISON))


@pytest.mark.parametrize("improvement", ["better", "better_or_newer"])
def test_the_rule_is_described(improvement: str) -> None:
    page = render_decision({**record(COMPARISON), "rule": {**RULE, "improvement": improvement, "floors": {}}})
    assert "Floors: none." in page
    assert ("trained on newer data" in page.split("## Rule")[1]) == (improvement == "better_or_newer")


def test_a_tiny_difference_is_not_a_negative_zero() -> None:
    tiny = {"value": -0.0001, "low": -0.0002, "high": 0.0001, "p_value": 0.9}
    found = record({**COMPARISON, "differences": dict.fromkeys(COMPARED, tiny)})
    assert "| +0.000 (+0.000 to +0.000) |" in render_decision(found)
