import pytest

from cxr_pipeline.report.kinds import kind_of, title

UNDEFINED = (None, None, None)
NAMES = ("normal", "Mass", "Nodule")
BINARY, MULTICLASS, MULTILABEL = (
    kind_of({"kind": kind, "classes": classes})
    for kind, classes in (("binary", ("nofinding", "effusion")), ("multiclass", NAMES), ("multilabel", NAMES))
)
GOOD = [("normal", 0.8, 0.9, 0.6), ("Mass", 0.66, 0.2, 0.97), ("Nodule", None, 0.3, 0.98)]


@pytest.fixture
def several(measured):
    """Make the metrics of classes from an AUC, a sensitivity and a specificity each."""

    def make(rates):
        per_class = {
            name: measured(auc=(auc, None, None), sensitivity=(found, None, None), specificity=(left, None, None))
            for name, auc, found, left in rates
        }
        metrics = measured(auc=(0.74, 0.7, 0.8), accuracy=(0.81, 0.8, 0.82), balanced_accuracy=(0.35, 0.3, 0.4),
                           sensitivity=(0.4, 0.3, 0.5), specificity=(0.9, 0.8, 1.0))  # fmt: skip
        return {"metrics": metrics, "per_class": per_class, "prevalence": {}}

    return make


def test_binary_performance_is_counted_in_hundreds(metrics_of):
    text = " ".join(BINARY.describe(metrics_of()))
    assert "the higher probability in about 89 (AUC 0.889; 50 by chance)." in text
    assert "Of 100 images labelled effusion, about 83 are predicted effusion." in text
    assert "Of 100 images labelled nofinding, about 78 are predicted nofinding." in text
    assert "about 77 are labelled effusion. That holds at the prevalence of the test images (49 of 100)" in text


def test_multiclass_performance_is_compared_with_the_majority_class(several):
    text = " ".join(MULTICLASS.describe({**several(GOOD), "majority": {"class": "normal", "accuracy": 0.82}}))
    assert "About 81 of 100 test images are classified correctly." in text
    assert "Always predicting normal would be correct for 82 of 100." in text
    assert "about 35 of 100 images of a class are classified correctly (33 by chance)" in text
    assert "in about 74, averaged over the classes (macro AUC 0.740; 50 by chance)" in text
    assert "AUC is highest for normal (0.800) and lowest for Mass (0.660)." in text
    assert "Always" not in " ".join(MULTICLASS.describe(several(GOOD)))


def test_multilabel_performance_has_mean_rates(several):
    text = " ".join(MULTILABEL.describe(several(GOOD)))
    assert "one with a label and one without it" in text
    assert "about 40 of 100 images with a label are predicted to have it, and about 90 of 100 images without" in text


@pytest.mark.parametrize("kind", [BINARY, MULTICLASS, MULTILABEL])
def test_undefined_metrics_are_left_out(measured, kind):
    undefined = {"metrics": measured(auc=UNDEFINED), "per_class": {"Mass": measured(auc=(0.7, None, None))}}
    assert kind.describe(undefined) == []


@pytest.mark.parametrize(
    ("sensitivity", "specificity", "predicted"),
    [
        (1, 0, "effusion"),
        (0, 1, "nofinding"),
        (0.98, 0.04, "effusion"),
        (0.94, 0.06, None),
        (0, 0, None),
        (1, None, None),
    ],
)
def test_a_binary_model_that_always_predicts_one_class_has_collapsed(metrics_of, sensitivity, specificity, predicted):
    metrics = metrics_of(sensitivity=(sensitivity, None, None), specificity=(specificity, None, None))
    warning = BINARY.collapsed(metrics)
    assert warning is None if predicted is None else f"it predicts {predicted} for almost every image" in warning


@pytest.mark.parametrize(
    ("sensitivity", "specificity", "collapsed"),
    [(0.98, 0.04, True), (0.94, 0.04, False), (0.98, 0.06, False), (0.0, 1.0, False)],
)
def test_a_multiclass_model_that_always_predicts_one_class_has_collapsed(several, sensitivity, specificity, collapsed):
    metrics = several([("normal", 0.8, sensitivity, specificity), ("Mass", 0.7, 0.5, 0.9)])
    assert ("predicts normal" in (MULTICLASS.collapsed(metrics) or "")) == collapsed


def test_labels_with_a_constant_decision_are_named(several):
    rates = [("normal", 0.8, 1.0, 0.0), ("Mass", 0.7, 0.0, 1.0), ("Nodule", 0.7, 0.5, 0.9)]
    warning = MULTILABEL.collapsed(several(rates))
    assert warning == "For 2 of 3 labels the decision is almost always the same: normal and Mass."
    assert MULTILABEL.collapsed(several(rates[2:])) is None


def test_metrics_have_titles():
    assert [title(name) for name in ("auc", "ece", "some_metric")] == ["AUC", "calibration error", "some metric"]
