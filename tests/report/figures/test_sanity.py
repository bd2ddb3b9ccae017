from cxr_pipeline.report.figures import sanity

CHANCE = {"expected": {"loss": 0.693, "at_least": 0.35, "at_most": 1.39}, "measured": {"loss": None}, "epochs": []}
OVERFITTING = {
    "expected": {"loss": 0.05, "auc": 0.999},
    "measured": {"loss": 0.04, "auc": 1.0, "images": 48},
    "epochs": [{"loss": None, "auc": None}],
}
SHUFFLED = {
    "expected": {"auc": 0.5, "at_least": None, "at_most": None},
    "measured": {"auc": None, "images": 100},
    "epochs": [{"auc": None}],
}


def test_undefined_numbers_are_left_out():
    checks = {"chance": CHANCE, "overfitting": OVERFITTING, "shuffled_labels": SHUFFLED}
    verdicts = [{"name": name, "passed": False, **check} for name, check in checks.items()]
    report = {"task": "effusion", "phantom": False, "verdicts": verdicts}
    assert sanity.sanity_figure(report).startswith(b"\x89PNG")
