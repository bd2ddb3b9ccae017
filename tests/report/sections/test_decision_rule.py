import numpy as np
import pytest

from cxr_pipeline.evaluation.decision_rule import fit_decision_rule
from cxr_pipeline.report.sections.decision_rule import decision_rule

NAMES = ("normal", "Mass", "Nodule")


def described(kind, *, calibration="platt", rare=3, **policy):
    """Describe a rule that was fitted to 12 images, ``rare`` of which have the last class."""
    classes = NAMES[-2:] if kind == "binary" else NAMES
    numbers = np.repeat([0, 1, 2], [6 - rare, 6, rare])
    true = np.eye(3)[numbers][:, 1:2] if kind == "binary" else np.eye(3)[numbers]
    scores = np.random.default_rng(0).dirichlet(np.ones(3), 12)[:, : true.shape[1]]
    rule = fit_decision_rule(true, scores, kind=kind, classes=classes, calibration=calibration, policy=policy)
    return decision_rule(rule.to_dict()).blocks[0]


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel"])
def test_only_fitted_parts_of_a_rule_are_described_as_fitted(kind):
    fitted, plain = described(kind, rule="youden"), described(kind, calibration="none", rule="fixed", value=0.3)
    assert fitted.startswith(
        "Thresholds were fitted on validation images. Probabilities are calibrated with Platt scaling"
    )
    assert plain.startswith("The threshold was set in advance; it was not fitted. Probabilities are not calibrated")


def test_a_joint_calibration_and_a_class_that_could_not_be_calibrated_are_described():
    text = described("multiclass", calibration="temperature", rule="argmax")
    assert text.startswith("The most probable class is predicted; there is no fitted threshold.")
    assert "Probabilities are calibrated with temperature scaling, fitted on" in text
    for kind in ("multiclass", "multilabel"):
        text = described(kind, rare=0, rule="youden")
        assert "on validation images, except for Nodule, whose validation images are all positive or all" in text
        assert "fitted on validation images, except for Nodule, where the fit was not possible." in text
