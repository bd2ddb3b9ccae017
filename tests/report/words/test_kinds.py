import pytest

from cxr_pipeline.report.words.kinds import ExclusiveClasses, Labels, TwoClasses, kind_of

UNDEFINED = (None, None, None)
BINARY = TwoClasses(("nofinding", "effusion"))
NAMES = ("normal", "Mass", "Nodule")


@pytest.mark.parametrize(
    ("name", "kind"), [("binary", TwoClasses), ("multiclass", ExclusiveClasses), ("multilabel", Labels)]
)
def test_kind_of_a_task(name, kind):
    assert kind_of({"kind": name, "classes": ["a", "b"]}) == kind(("a", "b"))


@pytest.fixture
def several(measured):
    return lambda rates: _several(measured, rates)


def _several(measured, rates):
    """Metrics of classes with an AUC, a sensitivity and a specificity each."""
    return {
        "metrics": measured(auc=(0.74, 0.7, 0.8), accuracy=(0.81, 0.8, 0.82), balanced_accuracy=(0.35, 0.3, 0.4),
                            sensitivity=(0.4, 0.3, 0.5), specificity=(0.9, 0.8, 1.0)),
        "per_class": {
            name: measured(auc=(auc, None, None), sensitivity=(found, None, None), specificity=(left, None, None))
            for name, auc, found, left in rates
        },
    }  # fmt: skip


GOOD = [("normal", 0.8, 0.9, 0.6), ("Mass", 0.66, 0.2, 0.97), ("Nodule", None, 0.3, 0.98)]


def test_exclusive_classes_set_accuracy_against_always_saying_the_same(several):
    text = " ".join(
        ExclusiveClasses(NAMES).quality({**several(GOOD), "majority": {"class": "normal", "accuracy": 0.82}})
    )
    assert "decides rightly about 81 of 100 test images; always saying normal is right for 82." in text
    assert "finds about 35 of 100 images of a class (guessing gets 33)" in text
    assert "in about 74, averaged over the classes (macro AUC 0.740; guessing gets 50)" in text
    assert "It tells normal best (AUC 0.800) and Mass worst (AUC 0.660)." in text
    assert "always saying" not in " ".join(ExclusiveClasses(NAMES).quality(several(GOOD)))


def test_labels_give_mean_rates(several):
    text = " ".join(Labels(NAMES).quality(several(GOOD)))
    assert "one with a label and one without it" in text
    assert "about 40 of 100 images with a label are found, and about 90 of 100 images without it are left alone" in text


@pytest.mark.parametrize("kind", [ExclusiveClasses, Labels])
def test_what_is_not_defined_is_left_out(measured, kind):
    undefined = {"metrics": {}, "per_class": {"Mass": measured(auc=(0.7, None, None))}}
    assert kind(NAMES).quality(undefined) == []


@pytest.mark.parametrize(
    ("found", "left", "collapses"), [(0.98, 0.04, True), (0.94, 0.04, False), (0.98, 0.06, False), (0.0, 1.0, False)]
)
def test_exclusive_classes_collapse_where_one_is_called_for_nearly_all_others(several, found, left, collapses):
    warning = ExclusiveClasses(NAMES).collapsed(several([("normal", 0.8, found, left), ("Mass", 0.7, 0.5, 0.9)]))
    assert (warning is not None and "image normal" in warning) == collapses


def test_labels_whose_decision_is_always_the_same_are_named(several):
    rates = [("normal", 0.8, 1.0, 0.0), ("Mass", 0.7, 0.0, 1.0), ("Nodule", 0.7, 0.5, 0.9)]
    assert "For 2 of 3 labels" in Labels(NAMES).collapsed(several(rates))
    assert Labels(NAMES).collapsed(several(rates)).endswith("normal and Mass.")
    assert Labels(NAMES).collapsed(several(rates[2:])) is None


@pytest.mark.parametrize(
    ("sensitivity", "specificity", "name"),
    [
        (1, 0, "image effusion"),
        (0, 1, "image nofinding"),
        (0.98, 0.04, "image effusion"),
        (0.94, 0.06, None),
        (0, 0, None),
    ],
)
def test_collapsed(metrics_of, sensitivity, specificity, name):
    metrics = metrics_of(sensitivity=(sensitivity, None, None), specificity=(specificity, None, None))
    warning = BINARY.collapsed(metrics)
    assert warning is None if name is None else name in warning


def test_collapse_cannot_be_told_from_one_class(metrics_of):
    assert BINARY.collapsed(metrics_of(specificity=UNDEFINED)) is None
