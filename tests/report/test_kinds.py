import pytest

from cxr_pipeline.report.kinds import kind_of

NAMES = ("normal", "Mass", "Nodule")
BINARY, MULTICLASS, MULTILABEL = KINDS = tuple(
    kind_of({"kind": kind, "classes": classes})
    for kind, classes in (("binary", ("nofinding", "effusion")), ("multiclass", NAMES), ("multilabel", NAMES))
)
RATES = [("normal", 0.8, 0.9, 0.6), ("Mass", 0.66, 0.2, 0.97), ("Nodule", None, 0.3, 0.98)]


@pytest.fixture
def several(measured):
    """Make the metrics of classes from an AUC, a sensitivity and a specificity each."""

    def values(**values):
        return measured(**{name: (value, None, None) for name, value in values.items()})

    def make(rates):
        per_class = {name: values(auc=auc, sensitivity=found, specificity=left) for name, auc, found, left in rates}
        means = values(auc=0.74, accuracy=0.81, balanced_accuracy=0.35, sensitivity=0.4, specificity=0.9)
        return {"metrics": means, "per_class": per_class, "prevalence": {}}

    return make


def test_binary_performance_is_counted_in_hundreds(metrics_of):
    auc, positive, negative, precision = BINARY.describe(metrics_of())
    assert "the higher probability in about 89 (AUC 0.889; 50 by chance)." in auc
    assert positive == "Of 100 images labelled effusion, about 83 are predicted effusion."
    assert negative == "Of 100 images labelled nofinding, about 78 are predicted nofinding."
    assert "about 77 are labelled effusion." in precision
    assert "at the prevalence of the test images (49 of 100)" in precision


def test_the_performance_of_several_classes_is_averaged(several):
    majority = {"majority": {"class": "normal", "accuracy": 0.82}}
    accuracy, always, balanced, auc, extremes = MULTICLASS.describe({**several(RATES), **majority})
    assert accuracy == "About 81 of 100 test images are classified correctly."
    assert always == "Always predicting normal would be correct for 82 of 100."
    assert "about 35 of 100 images of a class are classified correctly (33 by chance)" in balanced
    assert "in about 74, averaged over the classes (macro AUC 0.740; 50 by chance)" in auc
    assert extremes == "AUC is highest for normal (0.800) and lowest for Mass (0.660)."
    assert MULTICLASS.describe(several(RATES)) == [accuracy, balanced, auc, extremes]
    assert "about 40 of 100 images with a label are predicted to have it" in MULTILABEL.describe(several(RATES))[-1]


@pytest.mark.parametrize("kind", KINDS)
def test_sentences_on_undefined_metrics_are_left_out(measured, kind):
    undefined = measured(auc=(None, None, None))
    assert kind.describe({"metrics": undefined, "per_class": {"Mass": measured(auc=(0.7, None, None))}}) == []


@pytest.mark.parametrize(
    ("sensitivity", "specificity", "binary", "multiclass"),
    [
        (1, 0, "effusion", "normal"),
        (0.98, 0.04, "effusion", "normal"),
        (0, 1, "nofinding", None),
        (0.94, 0.04, None, None),
        (0.98, 0.06, None, None),
        (0, 0, None, None),
        (1, None, None, None),
    ],
)
def test_a_model_that_always_predicts_one_class_has_collapsed(several, sensitivity, specificity, binary, multiclass):
    two = several([("effusion", 0.8, sensitivity, specificity)])
    many = several([("normal", 0.8, sensitivity, specificity), ("Mass", 0.7, 0.5, 0.9)])
    for warning, predicted in ((BINARY.collapsed(two), binary), (MULTICLASS.collapsed(many), multiclass)):
        assert warning == "" if predicted is None else f"it predicts {predicted} for almost every image" in warning


def test_labels_with_a_constant_decision_are_named(several):
    rates = [("normal", 0.8, 1.0, 0.0), ("Mass", 0.7, 0.0, 1.0), ("Nodule", 0.7, 0.5, 0.9)]
    warning = MULTILABEL.collapsed(several(rates))
    assert warning == "For 2 of 3 labels the decision is almost always the same: normal and Mass."
    assert MULTILABEL.collapsed(several(rates[2:])) == ""
