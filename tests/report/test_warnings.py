from dataclasses import replace

import pytest

from cxr_pipeline.report import warnings
from cxr_pipeline.report.kinds import kind_of

UNDEFINED = (None, None, None)
NAMES = ("normal", "Mass", "Nodule")
BINARY = kind_of({"kind": "binary", "classes": ("nofinding", "effusion")})
MULTILABEL_TASK = {"kind": "multilabel", "classes": NAMES}
RULE = {"calibration": {"method": "none"}, "policy_met": True, "message": "At 0.41 sensitivity is 0.930."}
FITTED, FAILED = {"method": "platt", "message": ""}, {"method": "none", "message": "It was skipped."}
MISSED = {"policy_met": False, "message": "Missed.", "calibration": FAILED}
CONFOUNDING = {"auc": 0.93, "accuracy": 0.83, "majority_accuracy": 0.5, "confounded": True}


@pytest.mark.parametrize(
    ("auc", "expected"),
    [
        (UNDEFINED, "AUC is undefined"),
        ((0.4, 0.3, 0.49), "is worse than chance (AUC 0.400)"),
        ((0.4, 0.3, 0.5), "may be no better than chance: AUC 0.400 (0.300 to 0.500)"),
        ((0.7, 0.5, 0.9), "may be no better than chance: AUC 0.700 (0.500 to 0.900)"),
        ((0.59, 0.51, 0.7), "is little better than chance: AUC 0.590"),
        ((0.6, 0.51, 0.7), ""),
        ((0.5, None, None), "is no better than chance: AUC 0.500"),
        ((0.51, None, None), "is little better than chance"),
        ((0.6, None, None), ""),
    ],
)
def test_a_low_auc_or_an_interval_that_includes_chance_is_a_warning(metrics_of, auc, expected):
    warning = warnings.poor_auc(BINARY, metrics_of(auc=auc))
    assert expected in warning
    assert bool(warning) == bool(expected)


def test_an_auc_of_too_few_patients_is_a_warning(metrics_of):
    metrics = metrics_of(auc=(0.9, None, None))
    metrics["metrics"]["auc"]["too_few_patients"] = 3
    assert warnings.poor_auc(BINARY, metrics).endswith("from chance: AUC 0.900 (too few patients: 3).")


def test_many_images_of_few_patients_are_a_warning(metrics_of):
    metrics = metrics_of()
    assert not warnings.few_patients_of_a_class(BINARY, metrics)
    support = metrics["support"]["effusion"]
    support |= {"patients": {"positive": 2, "negative": 9}, "effective_patients": {"positive": 1.2, "negative": 9.0}}
    warning = warnings.few_patients_of_a_class(BINARY, metrics)
    assert "58 labelled effusion are of 2 patients (effective number 1.2) and 61 labelled nofinding are of 9" in warning
    # Of many classes those with the fewest patients are named.
    many = dict.fromkeys(("Hernia", *NAMES), support)
    warning = warnings.few_patients_of_a_class(BINARY, {**metrics, "support": many})
    assert "58 labelled Mass are of 2 patients (effective number 1.2) and 5 others." in warning
    assert "labelled not" not in warning
    # Without patients, and with an image each, the warning of few images is enough.
    assert not warnings.few_patients_of_a_class(BINARY, {**metrics, "intervals": {"clustered_by": "image"}})
    support |= {"n_known": 12, "n_positive": 3, "effective_patients": {"positive": 3.0, "negative": 9.0}}
    assert not warnings.few_patients_of_a_class(BINARY, metrics)


def test_unknown_patients_are_a_warning(metrics_of, data_report):
    nobody = warnings.patients_unknown(metrics_of("image"), data_report(n_unknown=791, sources={"images": False}))
    some = warnings.patients_unknown(metrics_of(), data_report(n_unknown=9, sources=dict.fromkeys("ac", False)))
    assert "791 of 791 images (the source “images” has no patient IDs)" in nobody
    assert "computed by image and may be too narrow" in nobody
    assert "9 of 791 images (the sources “a” and “c” have no patient IDs)" in some
    assert "computed by image for these images" in some
    assert not warnings.patients_unknown(metrics_of(), data_report())


def test_test_images_that_pretraining_may_have_used_are_a_warning(data_report):
    weights = {"weights": "chest.safetensors", "trained_on": ["nih", "chexpert"], "unlisted": ["images"]}
    warning = warnings.pretrained_on_test_images({**data_report(), "pretraining": weights})
    assert "chest.safetensors were trained on images of nih and chexpert, and no list says on which" in warning
    assert "If test images of the source “images” are among them" in warning
    unknown = warnings.pretrained_on_test_images({**data_report(), "pretraining": {**weights, "trained_on": []}})
    assert "not known which images the weights chest.safetensors were trained on" in unknown
    assert not warnings.pretrained_on_test_images({**data_report(), "pretraining": {**weights, "unlisted": []}})
    assert not warnings.pretrained_on_test_images(data_report())


def test_other_images_seen_in_pretraining_are_a_warning(data_report):
    weights = {"weights": "models:/cxr-chest14/3", "n_seen_outside_test": 7}
    warning = warnings.pretrained_on_other_images({**data_report(), "pretraining": weights})
    assert "models:/cxr-chest14/3 were trained on 7 images outside the test set" in warning
    assert not warnings.pretrained_on_other_images({**data_report(), "pretraining": {}})


def test_few_images_or_patients_are_a_warning(counts):
    both = warnings.few_test_images(BINARY, counts(nofinding=29, effusion=0))
    assert "Few test images: 0 labelled effusion and 29 labelled nofinding." in both
    assert not warnings.few_test_images(BINARY, counts(nofinding=30, effusion=30))
    warning = warnings.few_patients(counts(patients=40, effective_patients=2))
    assert "the 119 test images are from 40 patients and count like 2." in warning
    assert not warnings.few_patients(counts(patients=12, effective_patients=10))


def test_confounding_is_a_warning(data_report):
    warning = warnings.confounded({"confounding": CONFOUNDING})
    assert "the source alone reaches an AUC of 0.930" in warning
    assert "is correct for 83 of 100" in warning
    assert "AUC" not in warnings.confounded({"confounding": CONFOUNDING | {"auc": None}})
    for harmless in ({}, {"confounding": None}, {"confounding": CONFOUNDING | {"confounded": False}}):
        assert not warnings.confounded({**data_report(), **harmless})


@pytest.mark.parametrize(
    ("accuracy", "expected"),
    [
        ((0.8, 0.7, 0.9), "of 0.800 is not above that of always predicting No Finding (0.800)"),
        ((0.82, 0.79, 0.85), "may be no better"),
        ((0.82, None, None), ""),
        ((0.9, 0.81, 0.95), ""),
        (UNDEFINED, ""),
    ],
)
def test_an_accuracy_of_the_majority_class_is_a_warning(metrics_of, accuracy, expected):
    metrics = {**metrics_of(accuracy=accuracy), "majority": {"class": "No Finding", "accuracy": 0.8}}
    warning = warnings.majority(metrics)
    assert expected in warning
    assert bool(warning) == bool(expected)
    assert not warnings.majority(metrics_of(accuracy=accuracy))


def test_classes_at_chance_are_named(measured):
    mass, nodule, hernia = (measured(auc=auc) for auc in ((0.55, 0.5, 0.6), (0.7, 0.6, 0.8), UNDEFINED))
    few = {"auc": {"value": 0.9, "low": None, "high": None, "too_few_patients": 2}}
    chance = "it may be no better than chance"
    for per_class, expected in (
        ({"Mass": mass, "Nodule": nodule, "Hernia": hernia}, f"For 1 of 3 classes {chance}: Mass (AUC 0.550)."),
        ({"Nodule": nodule, "Hernia": few}, f"For 1 of 2 classes {chance}: Hernia (AUC 0.900, too few patients: 2)."),
        ({"Nodule": nodule, "Hernia": hernia}, ""),
        ({"Mass": mass}, ""),
    ):
        assert warnings.chance_classes({"per_class": per_class}) == expected


@pytest.mark.parametrize(
    ("function", "rule", "warning"),
    [
        (warnings.policy_missed, MISSED, "The threshold does not meet its policy. Missed."),
        (warnings.policy_missed, {**MISSED, "per_class": {"Mass": MISSED, "Nodule": RULE}},
         "1 threshold does not meet the policy. Mass: Missed."),
        (warnings.policy_missed, {**MISSED, "per_class": {"Mass": MISSED, "Nodule": MISSED}},
         "2 thresholds do not meet the policy. Mass: Missed. Nodule: Missed."),
        (warnings.policy_missed, RULE, ""),
        (warnings.calibration_failed, {"calibration": FAILED}, "It was skipped."),
        (warnings.calibration_failed, {"calibration": {"parts": [FITTED, FAILED]}, "classes": ["Mass", "Nodule"]},
         "Nodule: It was skipped."),
        (warnings.calibration_failed, {"calibration": {"Mass": FAILED, "Nodule": FITTED}}, "Mass: It was skipped."),
        (warnings.calibration_failed, {"calibration": FITTED}, ""),
    ],
)  # fmt: skip
def test_a_rule_that_misses_its_policy_or_could_not_be_fitted_is_a_warning(function, rule, warning):
    assert function(rule) == warning


def test_unknown_labels_are_counted(data_report):
    assert not warnings.unknown_labels({**data_report(), "unknown_labels": {"Mass": 0}})
    warning = warnings.unknown_labels({**data_report(), "unknown_labels": {"Mass": 1200, "Nodule": 0, "Hernia": 3}})
    assert "Mass for 1,200 images and Hernia for 3 images." in warning


def found(content):
    """Return the warnings about the results in a report."""
    names = ("task", "metrics", "decision_rule", "data_report", "split_counts")
    return warnings.warnings(**{name: getattr(content, name) for name in names})


def test_a_good_run_has_no_warnings(content, metrics_of):
    assert found(content) == []
    metrics = {**metrics_of(), "per_class": dict.fromkeys(NAMES, metrics_of()["metrics"])}
    counts = {"test": dict.fromkeys((*NAMES, "patients"), 40)}
    assert found(replace(content, task=MULTILABEL_TASK, metrics=metrics, split_counts=counts)) == []


def test_warnings_are_in_order_of_severity(content, metrics_of, data_report, measured):
    always, never = {"sensitivity": (1, 1, 1), "specificity": (0, 0, 0)}, {"sensitivity": (0, 0, 0)}
    metrics = {
        **metrics_of("image", auc=(0.5, 0.4, 0.6), accuracy=(0.8, 0.7, 0.9)),
        "majority": {"class": "normal", "accuracy": 0.8},
        "per_class": {
            "normal": measured(auc=(0.8, 0.7, 0.9), **always),
            "Mass": measured(auc=(0.5, 0.4, 0.6), **never, specificity=(1, 1, 1)),
        },
    }
    report = data_report(n_unknown=791, n_patients=0, sources={"images": False})
    report |= {"confounding": CONFOUNDING, "unknown_labels": {"Mass": 1}}
    poor = {"task": MULTILABEL_TASK | {"kind": "multiclass"}, "metrics": metrics, "decision_rule": MISSED}
    counts = {"test": dict.fromkeys((*NAMES, "patients"), 4)}

    texts = found(replace(content, **poor, data_report=report, split_counts=counts))

    expected = ("no better than chance", "collapsed", "confounded", "not above", "1 of 2 classes", "policy", "skipped",
                "patient is unknown", "Few test images", "labels are unknown")  # fmt: skip
    assert [phrase in warning for phrase, warning in zip(expected, texts, strict=True)] == [True] * 10
