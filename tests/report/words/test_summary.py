from typing import Any

import numpy as np
import pytest

from cxr_pipeline.evaluation.decision_rule import fit_decision_rule
from cxr_pipeline.report.words import summary
from cxr_pipeline.report.words.kinds import ExclusiveClasses, Labels, TwoClasses

UNDEFINED = (None, None, None)
BINARY = TwoClasses(("nofinding", "effusion"))
NAMES = ("normal", "Mass", "Nodule")


@pytest.mark.parametrize(
    ("weights", "start"),
    [
        ("none", "trained from scratch"),
        ("imagenet", "starting from ImageNet weights"),
        ("/data/weights/chest.weights.h5", "starting from the weights in chest.weights.h5,"),
    ],
)
def test_what_was_trained(weights, start):
    model = {"name": "densenet121", "weights": weights, "n_parameters": 7168833, "size": 224}
    sentence = summary.what_was_trained(BINARY, model)
    assert start in sentence
    assert "7,168,833 parameters" in sentence
    assert "tell images labelled effusion from images labelled nofinding" in sentence
    assert "224 x 224" in sentence
    assert "/home" not in sentence


def test_on_whom_counts_images_and_patients(data_report, counts):
    sentence = summary.on_whom(BINARY, data_report(), counts())
    assert "learned from 1,554 images. 118 others" in sentence
    assert "tested on 119" in sentence
    assert "the source “images”. They are of 640 patients" in sentence
    assert "program" not in sentence


def test_on_whom_says_whose_patients_are_unknown_and_which_images_are_drawn(data_report, counts):
    assert "Whose images they are is not known." in summary.on_whom(
        BINARY, data_report(n_unknown=791, n_patients=0), counts()
    )
    partly = data_report(n_unknown=1200, sources={"a": True, "b": False, "c": True})
    assert "the sources “a”, “b” and “c”. All but 1,200 of them are of 640 patients" in summary.on_whom(
        BINARY, partly, counts()
    )
    assert "drawn by a program" in summary.on_whom(BINARY, {**data_report(), "phantom": True}, counts())


def test_how_good_speaks_of_a_hundred_images(metrics_of):
    sentences = summary.how_good(BINARY, metrics_of())
    assert "in about 89 (AUC 0.889; guessing gets 50)." in sentences
    assert "Of 100 images labelled effusion about 83 are found." in sentences
    assert "Of 100 images labelled nofinding about 78 are rightly called so." in sentences
    assert "Of 100 images that it calls effusion about 77 are labelled so, where 49 of 100 images are" in sentences
    assert "no good" not in sentences


def test_how_good_leaves_out_what_is_not_defined(metrics_of):
    sentences = summary.how_good(BINARY, metrics_of(auc=UNDEFINED, specificity=UNDEFINED, precision=UNDEFINED))
    assert "about 83 are found" in sentences
    assert "rightly" not in sentences
    assert "that it calls" not in sentences
    assert "pairs" not in sentences
    assert sentences.startswith("Nobody can tell")


def test_how_good_begins_with_a_bad_verdict(metrics_of):
    assert summary.how_good(BINARY, metrics_of(auc=(0.55, 0.4, 0.7))).startswith("This model is no good")


def test_how_sure_gives_intervals_and_how_they_were_drawn(metrics_of):
    by_patient = summary.how_sure(BINARY, metrics_of())
    assert by_patient.startswith(
        "With 95 % confidence, the AUC lies between 0.851 and 0.924, the sensitivity lies between"
    )
    assert "(2,000 bootstrap replicates; patients drawn whole" in by_patient
    assert "images drawn one by one" in summary.how_sure(BINARY, metrics_of("image"))


def test_how_sure_leaves_out_what_has_no_interval(metrics_of):
    assert "the AUC" not in summary.how_sure(BINARY, metrics_of(auc=(0.9, None, None)))
    none = metrics_of(auc=UNDEFINED, sensitivity=UNDEFINED, specificity=(0.5, None, None))
    assert summary.how_sure(BINARY, none) == "No interval could be computed from these test images."


def test_not_for_rules_out_patients_and_other_sources(source_counts):
    text = " ".join(summary.not_for(BINARY, source_counts(kermany=(90, 10, 20))))
    for expected in (
        "not a medical device",
        "research",
        "decision about a patient",
        "only on images from the source “kermany”",
    ):
        assert expected in text


@pytest.mark.parametrize(
    ("kind", "trained", "tuned", "limit"),
    [
        (ExclusiveClasses, "to decide of which of 3 classes an image is: normal, Mass and Nodule", "how a probability",
         "gives one of them"),
        (Labels, "to say which of 3 labels an image has, any number at once", "how a probability", "It knows 3 labels"),
    ],
)  # fmt: skip
def test_other_kinds_are_put_in_their_own_words(data_report, counts, source_counts, kind, trained, tuned, limit):
    several, model = kind(NAMES), {"name": "cnn", "weights": "none", "n_parameters": 7, "size": 28}
    assert trained in summary.what_was_trained(several, model)
    assert tuned in summary.on_whom(several, data_report(), counts())
    assert limit in summary.not_for(several, source_counts())[-1]


@pytest.mark.parametrize("kind", [ExclusiveClasses, Labels])
def test_how_sure_and_how_good_name_the_mean_over_several_classes(metrics_of, kind):
    metrics = metrics_of(auc=(0.55, 0.45, 0.65))
    assert summary.how_good(kind(NAMES), metrics).startswith("This model is no good: with a macro AUC of 0.550")
    assert "the macro AUC lies between 0.450 and 0.650" in summary.how_sure(kind(NAMES), metrics)


def test_images_of_several_labels_are_counted_once():
    both = {"Mass": 5, "Nodule": 7, "patients": None}
    assert summary.images_in(both) == 12
    assert summary.images_in({**both, "images": 9}) == 9


LEARNED, TUNED, EXTERNAL, UNTESTED = (90, 10, 20), (0, 10, 20), (0, 0, 20), (90, 10, 0)


@pytest.mark.parametrize(
    ("sources", "tested", "elsewhere"),
    [
        ({"a": LEARNED}, "the source “a”, which it learned from too. On", "not tested on images from another source"),
        ({"a": LEARNED, "b": UNTESTED}, "the source “a”, which it learned from too. On", "not tested on images from"),
        ({"a": TUNED}, "the source “a”, which it learned from too. On", "not tested on images from another source"),
        ({"a": UNTESTED, "b": EXTERNAL}, "only on images from the source “b”, which it did not learn from. On",
         "It was tested on images from the source “b”, which it did not learn from."),
        ({"a": LEARNED, "b": EXTERNAL, "c": LEARNED, "d": EXTERNAL},
         "the sources “a” and “c”, which it learned from too, and from the sources “b” and “d”, which it did not learn",
         "It was tested on images from the sources “b” and “d”, which it did not learn from."),
    ],
)  # fmt: skip
def test_only_sources_that_taught_are_said_to_have_taught(source_counts, sources, tested, elsewhere):
    given = source_counts(**sources)
    assert tested in " ".join(summary.not_for(BINARY, given))
    assert elsewhere in summary.tested_elsewhere(given)


@pytest.mark.parametrize(
    ("uncertain", "said"),
    [("unknown", "or that a source calls uncertain, are left out"),
     ("positive", "calls uncertain is taken for positive (task.uncertain), in training and in test."),
     ("negative", "calls uncertain is taken for negative (task.uncertain), in training and in test.")],
)  # fmt: skip
def test_uncertain_labels_are_said_to_be_what_they_were_taken_for(uncertain, said):
    assert said in summary.unsure_labels(uncertain)
    assert ("or that a source calls uncertain" in summary.unsure_labels(uncertain)) == (uncertain == "unknown")


def rule_of(kind: str, *, calibration: str = "platt", rare: int = 3, **policy: Any) -> dict[str, Any]:
    """The JSON form of a rule fitted to 12 images; of the last class there are ``rare``."""
    true = np.zeros((12, 1 if kind == "binary" else 3))
    true[: 6 - rare, 0], true[12 - rare :, -1] = 1, 1
    true[6 - rare : 12 - rare, true.shape[1] // 2] = 1
    classes = ("nofinding", "effusion") if kind == "binary" else NAMES
    if kind == "binary":
        true[:6] = 0
    scores = np.random.default_rng(0).dirichlet(np.ones(3), 12)[:, : true.shape[1]]
    return fit_decision_rule(true, scores, kind=kind, classes=classes, calibration=calibration, policy=policy).to_dict()


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel"])
@pytest.mark.parametrize(
    ("policy", "said"),
    [({"rule": "youden"}, "Thresholds were fitted on validation images."),
     ({"rule": "fixed", "value": 0.3}, "The threshold is a number that was set beforehand; it was not fitted.")],
)  # fmt: skip
def test_what_was_fitted_is_said_for_each_kind_of_rule(kind, policy, said):
    fitted, plain = (rule_of(kind, calibration=method, **policy) for method in ("platt", "none"))
    assert summary.how_decided(fitted) == (
        f"{said} The calibration was fitted on validation images. The rule is frozen with the model."
    )
    assert summary.how_decided(plain) == f"{said} There is no calibration. The rule is frozen with the model."
    assert summary.how_calibrated(fitted) == (
        "Probabilities are calibrated by platt, on validation images. On images of other prevalence they are off."
    )
    assert summary.how_calibrated(plain) == (
        "Probabilities are not calibrated: they are the network's own scores, and need not be frequencies."
    )


def test_the_most_probable_class_has_no_fitted_threshold():
    said = summary.how_decided(rule_of("multiclass", calibration="temperature", rule="argmax"))
    assert said.startswith("The most probable class is decided for; no threshold was fitted. The calibration was")


def test_the_calibration_of_all_classes_together_is_named():
    said = summary.how_calibrated(rule_of("multiclass", calibration="temperature", rule="argmax"))
    assert said.startswith("Probabilities are calibrated by temperature, on validation images. ")


@pytest.mark.parametrize("kind", ["multiclass", "multilabel"])
def test_a_class_that_could_not_be_calibrated_is_named(kind):
    said = summary.how_calibrated(rule_of(kind, rare=0, rule="youden"))
    assert "by platt, on validation images, but for those of Nodule, which could not be." in said
