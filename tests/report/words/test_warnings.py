from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_pipeline.report.words import warnings
from cxr_pipeline.report.words.kinds import ExclusiveClasses, Labels, TwoClasses

UNDEFINED = (None, None, None)
BINARY = TwoClasses(("nofinding", "effusion"))
NAMES = ("normal", "Mass", "Nodule")
RULE = {"policy_met": True, "message": "At 0.41 sensitivity is 0.930."}


@pytest.mark.parametrize(
    ("auc", "words"),
    [
        ((0.889, 0.851, 0.924), None),
        ((0.6, 0.55, 0.65), None),
        ((0.7, 0.501, 0.9), None),
        ((0.7, 0.5, 0.9), "may be guessing"),
        ((0.599, 0.55, 0.65), "little better than guessing"),
        ((0.5, None, None), "no better than guessing"),
        ((0.2, 0.1, 0.3), "worse than guessing"),
        (UNDEFINED, "not defined"),
    ],
)
def test_no_good(metrics_of, auc, words):
    verdict = warnings.no_good(BINARY, metrics_of(auc=auc))
    assert verdict is None if words is None else words in verdict


@settings(deadline=None)
@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_a_model_whose_interval_reaches_guessing_is_never_left_without_a_verdict(metrics_of, one, two, three):
    low, value, high = sorted((one, two, three))
    verdict = warnings.no_good(BINARY, metrics_of(auc=(value, low, high)))
    assert (verdict is None) == (low > 0.5 and value >= warnings.POOR_AUC)


def test_policy_missed_gives_the_message_of_the_policy():
    assert warnings.policy_missed(RULE) is None
    assert warnings.policy_missed({**RULE, "policy_met": False}).endswith(RULE["message"])


def test_patients_unknown_names_the_sources_that_do_not_say(metrics_of, data_report):
    assert warnings.patients_unknown(metrics_of(), data_report()) is None
    silent = data_report(n_unknown=791, n_patients=0, sources={"images": False})
    warning = warnings.patients_unknown(metrics_of("image"), silent)
    assert "791 of 791 images (the source “images” does not say)" in warning
    assert "may be in training and in test" in warning
    assert "intervals are by image, and" in warning


def test_patients_unknown_of_some_images(metrics_of, data_report):
    two = data_report(n_unknown=9, sources={"a": False, "b": True, "c": False})
    warning = warnings.patients_unknown(metrics_of(), two)
    assert "(the sources “a” and “c” do not say)" in warning
    assert "by image where the patient is not known" in warning
    unmatched = warnings.patients_unknown(metrics_of(), data_report(n_unknown=9))
    assert "9 of 791 images. One patient's" in unmatched


def test_few_test_images_counts_them(counts):
    assert warnings.few_test_images(counts(nofinding=30, effusion=30), BINARY) is None
    assert "few test images: 29 labelled effusion." in warnings.few_test_images(counts(effusion=29), BINARY)
    both = warnings.few_test_images(counts(nofinding=3, effusion=0), BINARY)
    assert "3 labelled nofinding and 0 labelled effusion" in both


def test_a_good_run_has_no_warnings(metrics_of, data_report, counts):
    assert warnings.cautions(BINARY, metrics_of(), RULE, data_report(), counts()) == []


def test_warnings_come_together_the_worst_first(metrics_of, data_report, counts):
    bad = metrics_of("image", auc=(0.5, 0.4, 0.6), sensitivity=(1, 1, 1), specificity=(0, 0, 0))
    silent = data_report(n_unknown=791, n_patients=0, sources={"images": False})
    found = warnings.cautions(BINARY, bad, {**RULE, "policy_met": False}, silent, counts(effusion=2))
    words = ("no good", "collapsed", "policy", "patient is not known", "few test images")
    assert len(found) == len(words)
    assert all(word in warning for word, warning in zip(words, found, strict=True))


def confounding(**changed: Any) -> dict[str, Any]:
    return {"auc": 0.93, "accuracy": 0.83, "majority_accuracy": 0.5, "confounded": True, **changed}


def test_confounded_gives_what_the_source_alone_tells(data_report):
    warning = warnings.confounded({**data_report(), "confounding": confounding()})
    assert "gives an AUC of 0.930 and the source names the class of 83 of 100 images rightly" in warning
    assert "commonest class does so for 50" in warning
    assert "Believe the figures of each source by itself" in warning


def test_confounded_says_nothing_where_it_was_not_measured_or_not_found(data_report):
    assert warnings.confounded(data_report()) is None
    assert warnings.confounded({**data_report(), "confounding": None}) is None
    assert warnings.confounded({**data_report(), "confounding": confounding(confounded=False)}) is None
    assert "AUC" not in warnings.confounded({"confounding": confounding(auc=None)})


@pytest.mark.parametrize(
    ("accuracy", "words"),
    [
        ((0.8, 0.7, 0.9), "of 0.800 is not above that of always saying No Finding (0.800)"),
        ((0.79, 0.7, 0.9), "is not above"),
        ((0.82, 0.79, 0.85), "may be no better"),
        ((0.82, None, None), None),
        ((0.9, 0.81, 0.95), None),
        (UNDEFINED, None),
    ],
)
def test_accuracy_is_held_against_always_saying_the_same(metrics_of, accuracy, words):
    metrics = {**metrics_of(accuracy=accuracy), "majority": {"class": "No Finding", "accuracy": 0.8}}
    warning = warnings.no_better_than_the_majority(metrics)
    assert warning is None if words is None else words in warning


def test_without_a_majority_accuracy_is_left_alone(metrics_of):
    assert warnings.no_better_than_the_majority(metrics_of(accuracy=(0.1, 0.0, 0.2))) is None


def test_guessed_classes_are_named(measured):
    per_class = {"Mass": measured(auc=(0.55, 0.5, 0.6)), "Nodule": measured(auc=(0.7, 0.6, 0.8)),
                 "Hernia": measured(auc=UNDEFINED)}  # fmt: skip
    assert (
        warnings.guessed_classes({"per_class": per_class}) == "It may be guessing for 1 of 3 classes: Mass (AUC 0.550)."
    )
    assert (
        warnings.guessed_classes({"per_class": {"Nodule": per_class["Nodule"], "Hernia": per_class["Hernia"]}}) is None
    )
    assert warnings.guessed_classes({"per_class": {"Mass": per_class["Mass"]}}) is None


def test_policy_missed_names_the_classes():
    rules = {"Mass": {"policy_met": False, "message": "Missed."}, "Nodule": RULE}
    warning = warnings.policy_missed({"per_class": rules})
    assert warning == "1 threshold does not keep to the policy. Mass: Missed."
    assert "2 thresholds do" in warnings.policy_missed({"per_class": {**rules, "Hernia": rules["Mass"]}})
    assert warnings.policy_missed({"per_class": {"Nodule": RULE}}) is None
    assert warnings.policy_missed({"thresholds": {}}) is None


def test_unknown_labels_are_counted(data_report):
    assert warnings.unknown_labels(data_report()) is None
    assert warnings.unknown_labels({**data_report(), "unknown_labels": {"Mass": 0}}) is None
    warning = warnings.unknown_labels({**data_report(), "unknown_labels": {"Mass": 1200, "Nodule": 0, "Hernia": 3}})
    assert "Mass for 1,200 and Hernia for 3." in warning


def test_every_new_warning_is_among_the_cautions(metrics_of, data_report, measured):
    metrics = {
        **metrics_of(accuracy=(0.8, 0.7, 0.9)),
        "majority": {"class": "normal", "accuracy": 0.8},
        "per_class": {
            "normal": measured(auc=(0.8, 0.7, 0.9), sensitivity=(1, 1, 1), specificity=(0, 0, 0)),
            "Mass": measured(auc=(0.5, 0.4, 0.6), sensitivity=(0, 0, 0), specificity=(1, 1, 1)),
        },
    }
    report = {**data_report(), "confounding": confounding(), "unknown_labels": {"Mass": 1}}
    found = warnings.cautions(ExclusiveClasses(NAMES), metrics, RULE, report, {"test": dict.fromkeys(NAMES, 40)})
    words = ("collapsed", "confounded", "not above", "guessing", "not known")
    assert len(found) == len(words)
    assert all(word in warning for word, warning in zip(words, found, strict=True))


def test_a_good_run_of_labels_has_no_warnings(metrics_of, data_report):
    metrics = {**metrics_of(), "per_class": dict.fromkeys(NAMES, metrics_of()["metrics"])}
    assert warnings.cautions(Labels(NAMES), metrics, RULE, data_report(), {"test": dict.fromkeys(NAMES, 40)}) == []
