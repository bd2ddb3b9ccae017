import json
import re

from cxr_pipeline.deployment.promotion import COMPARED, decide
from cxr_pipeline.report.pages.promotion_record import decision_files, decision_record, render_decision, stop_record

RULE = {"floors": {"auc": 0.6}, "sensitivity_margin": 0.05, "auc_margin": 0.02, "improvement": "better_or_newer"}
MEASURE = {"value": 0.875, "low": 0.8, "high": 0.9375}
DIFFERENCE = {"value": 0.01, "low": -0.031, "high": 0.05, "p_value": 0.4}
UNDEFINED = {"value": None, "low": None, "high": None, "p_value": None}
WHY = "Since the champion, cxr-chest 3: 9 new images."
TIME = {"decided_at": "2031-05-04T02:00:07+00:00"}
CHANGES = {
    **{"model": "cxr-chest", "champion": 3, "why": WHY, "drift": None, "digest": "7" * 64},
    "changes": {"new": 9, "relabelled": 0, "reassigned": 0, "gone": 0},
}


def comparison_of(challenger=MEASURE, champion=None, difference=DIFFERENCE, **counts):
    measures = {"challenger": challenger, "champion": champion or {"value": 0.865, "low": None, "high": None}}
    sides = {name: dict.fromkeys(COMPARED, each) for name, each in {**measures, "differences": difference}.items()}
    return {"n_images": 1230, "n_patients": 59, "n_left_out": 4, **sides, **counts}


def record(comparison, *, phantom=False, n_patients=60):
    metrics = dict.fromkeys(COMPARED, MEASURE)
    differences = comparison["differences"] if comparison else None
    return decision_record(
        decide(metrics, differences, **RULE, newer_data=True),
        comparison,
        challenger={"name": "cxr-chest", "version": 4, "uri": "models:/cxr-chest/4", "run_id": "r", "digest": "d"},
        metrics={"task": "chest", "phantom": phantom, "n_images": 1234, "n_patients": n_patients,
                 "images_digest": "f" * 64, "metrics": metrics},
        changes={**CHANGES, "champion": 3 if comparison else None},
        rule=RULE,
        bootstrap={"replicates": 2000, "confidence": 0.95, "seed": 1},
    )  # fmt: skip


def test_a_record_has_what_was_compared_and_each_condition():
    page = render_decision(record(comparison_of()))
    assert page.startswith("# cxr-chest 4: not promoted\n")
    for sentence in (
        "**cxr-chest 4 was not promoted in place of cxr-chest 3.**",
        "- Tested on: 1,234 images of 60 patients",
        WHY,
        "- The lower end of the difference in AUC, -0.031, is not above -0.020.",
        "| floor of AUC | 0.875 | 0.600 | met |",
        "| AUC not worse | -0.031 | -0.020 | not met |",
        "on the same 1,230 images of 59 patients; 4 images that only one of them could score are left out.",
        "| AUC | 0.875 (0.800 to 0.938) | 0.865 | +0.010 (-0.031 to +0.050) |",
        "95 % intervals; those of differences come from 2,000 bootstrap replicates, resampling patients",
        "Floors: AUC 0.6. With a champion also: the lower bound of the difference in sensitivity is above -0.05, and",
    ):
        assert sentence in page
    assert not re.search("PHANTOM|Drift of", page)


def test_a_first_version_is_not_compared():
    first = record(None, phantom=True, n_patients=None)
    page = render_decision(first)
    assert page.startswith("# cxr-chest 4: promoted\n\n**PHANTOM IMAGES")
    assert "- Champion: none" in page
    assert "- Tested on: 1,234 images whose patients are unknown" in page
    assert first["champion"] is first["compared_on"] is None
    assert "| AUC | 0.875 (0.800 to 0.938) |" in page


def test_undefined_metrics_and_tiny_differences_are_shown():
    nothing = comparison_of(UNDEFINED, UNDEFINED, UNDEFINED, n_patients=None, n_left_out=0)
    page = render_decision(record(nothing))
    assert "| AUC | not defined | not defined | not defined |" in page
    assert "| AUC not worse | not defined | -0.020 | not met |" in page
    assert "resampling images" in page
    assert "left out" not in page
    tiny = {"value": -0.0001, "low": -0.0002, "high": 0.0001, "p_value": 0.9}
    assert "| +0.000 (+0.000 to +0.000) |" in render_decision(record(comparison_of(difference=tiny)))


def test_the_files_are_named_after_the_time():
    made = record(comparison_of()) | TIME
    files = decision_files(made)
    assert list(files) == ["2031-05-04T020007Z.md", "2031-05-04T020007Z.json"]
    assert json.loads(files["2031-05-04T020007Z.json"]) == json.loads(json.dumps(made))
    assert files["2031-05-04T020007Z.md"] == render_decision(made)


def test_the_record_of_a_stop_has_the_reason_the_champion_and_the_page_of_the_drift(drift_report):
    drift = drift_report(brighter=40, labels=False)
    made = stop_record({**CHANGES, "task": "chest", "phantom": True, "stopped": "Nothing was trained.", "drift": drift})
    assert (made["decision"], made["promoted"], made["challenger"]) == ("stopped", False, None)
    files = decision_files(made | TIME)
    assert list(files) == ["2031-05-04T020007Z.md", "2031-05-04T020007Z.json", "2031-05-04T020007Z.drift.html"]
    page, written, drift_page = files.values()
    assert page.startswith("# cxr-chest: stopped\n\n**PHANTOM IMAGES")
    for sentence in (
        "without training a challenger.",
        "- Champion: cxr-chest 3",
        WHY,
        "- Nothing was trained.",
        f"Verdict: REFUSE. {drift['sentence']}",
        f"| pixels | brightness | KS distance | {drift['families'][0]['tests'][0]['effect']:.3f} | refuse |",
        f"- {drift['families'][3]['notes'][0]}",
    ):
        assert sentence in page
    assert page.count("| pixels |") == 1
    assert "brightness" in drift_page
    assert json.loads(written)["drift"]["families"][0]["tests"][0]["effect"] > 0.9
    assert "edges" not in written
