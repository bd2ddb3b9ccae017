import numpy as np
import pytest

from cxr_pipeline.evaluation.decision_rule import fit_decision_rule
from cxr_pipeline.report import sentences
from cxr_pipeline.report.kinds import kind_of

UNDEFINED = (None, None, None)
NAMES = ("normal", "Mass", "Nodule")
BINARY = kind_of({"kind": "binary", "classes": ("nofinding", "effusion")})
MULTICLASS, MULTILABEL = (kind_of({"kind": kind, "classes": NAMES}) for kind in ("multiclass", "multilabel"))


@pytest.mark.parametrize(
    ("kind", "weights", "phrase"),
    [
        (BINARY, "none", "7,168,833 parameters, trained from scratch, to distinguish images labelled effusion from"),
        (
            MULTICLASS,
            "imagenet",
            "initialised with ImageNet weights, to assign an image to one of 3 classes: normal, Mass",
        ),
        (
            MULTILABEL,
            "/home/x/chest.h5",
            "initialised with the weights in chest.h5, to predict which of 3 labels, any",
        ),
    ],
)
def test_the_model_is_described_without_its_paths(kind, weights, phrase):
    sentence = sentences.model(kind, {"name": "cnn", "weights": weights, "n_parameters": 7168833, "size": 224})
    assert phrase in sentence
    assert "/home" not in sentence


def test_images_and_patients_are_counted(data_report, counts):
    sentence = sentences.data(BINARY, data_report(), counts())
    assert "trained on 1,554 images. 118 others" in sentence
    assert "the epoch and the threshold, and 119 to test it" in sentence
    assert "from the source “images”. They are from 640 patients" in sentence
    several = {"Mass": 5, "Nodule": 7, "patients": None}
    split = {"train": several, "validation": several, "test": {**several, "images": 9}}
    assert "trained on 12 images. 12 others were used to choose the epoch and the decision rule, and 9 to test" in (
        sentences.data(MULTILABEL, data_report(), split)
    )


def test_unknown_patients_and_phantoms_are_named(data_report, counts):
    nobody = sentences.data(BINARY, data_report(n_unknown=791, n_patients=0), counts())
    assert nobody.endswith("Their patients are unknown.")
    partly = data_report(n_unknown=1200, sources={"a": True, "b": False}) | {"phantom": True}
    assert "“b” (synthetic). The patient is known for all but 1,200 of them. The others are from 640" in (
        sentences.data(BINARY, partly, counts())
    )


def test_uncertainty_has_the_intervals_and_how_they_were_computed(metrics_of):
    by_patient = sentences.uncertainty(BINARY, metrics_of())
    assert by_patient.startswith("95 % confidence intervals: AUC 0.851 to 0.924, sensitivity 0.750 to 0.900 and")
    assert "(2,000 bootstrap replicates, resampling patients" in by_patient
    assert "resampling images" in sentences.uncertainty(BINARY, metrics_of("image"))
    assert "AUC" not in sentences.uncertainty(BINARY, metrics_of(auc=(0.9, None, None)))
    assert "macro AUC 0.851 to 0.924" in sentences.uncertainty(MULTILABEL, metrics_of())
    nothing = metrics_of(auc=UNDEFINED, sensitivity=UNDEFINED, specificity=(0.5, None, None))
    assert sentences.uncertainty(BINARY, nothing) == "No interval could be computed from these test images."


TRAINED, TUNED, EXTERNAL, UNTESTED = (
    dict(zip(("train", "validation", "test"), images, strict=True))
    for images in ((90, 10, 20), (0, 10, 20), (0, 0, 20), (90, 10, 0))
)
ALSO_TRAINED = "the source “a”, which it was also trained on."


@pytest.mark.parametrize(
    ("sources", "tested", "external"),
    [
        ({"a": TRAINED, "b": UNTESTED}, ALSO_TRAINED, "It was not tested on"),
        ({"a": TUNED}, ALSO_TRAINED, "It was not tested on"),
        ({"a": UNTESTED, "b": EXTERNAL}, "from the source “b”, which it was not trained on.",
         "It was tested on images from the source “b”, which it was not trained on."),
        ({"a": TRAINED, "b": EXTERNAL, "c": TRAINED, "d": EXTERNAL},
         "the sources “a” and “c”, which it was also trained on and from the sources “b” and “d”, which it was not",
         "It was tested on images from the sources “b” and “d”, which it was not trained on."),
    ],
)  # fmt: skip
def test_sources_are_named_by_whether_the_model_was_trained_on_them(sources, tested, external):
    scope = " ".join(sentences.out_of_scope(BINARY, sources))
    assert tested in scope
    assert "not a medical device" in scope
    assert "any decision about a patient" in scope
    assert sentences.external_test(sources).startswith(external)


@pytest.mark.parametrize("policy", ["unknown", "positive", "negative"])
def test_uncertain_labels_are_treated_as_configured(policy):
    expected = "marks as uncertain, are ignored" if policy == "unknown" else f"marks as uncertain count as {policy}"
    assert expected in sentences.uncertain_labels(policy)


def rule_of(kind, *, calibration="platt", rare=3, **policy):
    """Fit a rule to 12 images, ``rare`` of which have the last class, and return its JSON form."""
    classes = NAMES[-2:] if kind == "binary" else NAMES
    numbers = np.repeat([0, 1, 2], [6 - rare, 6, rare])
    true = np.eye(3)[numbers][:, 1:2] if kind == "binary" else np.eye(3)[numbers]
    scores = np.random.default_rng(0).dirichlet(np.ones(3), 12)[:, : true.shape[1]]
    return fit_decision_rule(true, scores, kind=kind, classes=classes, calibration=calibration, policy=policy).to_dict()


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel"])
@pytest.mark.parametrize(
    ("policy", "expected"),
    [({"rule": "youden"}, "Thresholds were fitted on validation images."),
     ({"rule": "fixed", "value": 0.3}, "The threshold was set in advance; it was not fitted.")],
)  # fmt: skip
def test_only_fitted_parts_of_a_rule_are_described_as_fitted(kind, policy, expected):
    fitted, plain = (rule_of(kind, calibration=method, **policy) for method in ("platt", "none"))
    assert sentences.decision_rule(fitted).startswith(f"{expected} Probabilities are calibrated with platt, fitted on")
    assert sentences.decision_rule(plain).startswith(f"{expected} Probabilities are not calibrated")


def test_a_joint_calibration_and_a_class_that_could_not_be_calibrated_are_described():
    rule = rule_of("multiclass", calibration="temperature", rule="argmax")
    text = sentences.decision_rule(rule)
    assert text.startswith("The most probable class is predicted; there is no fitted threshold.")
    assert "Probabilities are calibrated with temperature, fitted on" in text
    for kind in ("multiclass", "multilabel"):
        text = sentences.decision_rule(rule_of(kind, rare=0, rule="youden"))
        assert "fitted on validation images, except for Nodule, where the fit was not possible." in text


def explanations(randomised=None, **localisation):
    measures = {name: {"value": value, "low": low} for name, (value, low) in localisation.items()}
    return {"method": "Grad-CAM", "layer": "conv5", "localisation": {"Effusion": measures}, "randomised": randomised}


def test_heat_maps_are_compared_with_the_centre_of_the_image():
    for low, verdict in ((0.8, "is significantly"), (0.3, "is not significantly"), (None, "is not significantly")):
        document = explanations(pointing_game=(0.9, low), pointing_game_centred=(0.3, None))
        first, second = sentences.heat_maps(document)
        assert first == "Heat maps were computed with Grad-CAM at layer conv5."
        assert "For Effusion, the maximum is inside an annotated box in about 90 of 100 images; the centre" in second
        assert verdict in second
    assert sentences.heat_maps(explanations(pointing_game=(0.9, None)))[1].endswith("in about 90 of 100 images.")
    assert len(sentences.heat_maps(explanations(pointing_game=(None, None)))) == 1


@pytest.mark.parametrize(("correlation", "independent"), [(-0.4, False), (0.49, False), (0.5, True)])
def test_heat_maps_that_do_not_depend_on_the_weights_explain_nothing(correlation, independent):
    randomised = {"n_shuffles": 5, "rank_correlation": {"value": correlation}, "pointing_game": {"value": 0.12}}
    sentence = sentences.heat_maps(explanations(randomised))[-1]
    assert f"(rank correlation {correlation:.2f}, mean of 5 shuffles)" in sentence
    assert ("do not explain the model" in sentence) == independent
    assert ("inside a box in 12 of 100 images" in sentence) != independent
