from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_pipeline.report import wording

CLASSES = ("nofinding", "effusion")
RULE = {"policy_met": True, "message": "At 0.41 sensitivity is 0.930."}


def metrics_of(
    clustered_by: str = "patient", **changed: tuple[float | None, float | None, float | None]
) -> dict[str, Any]:
    measures = {
        "auc": (0.889, 0.851, 0.924),
        "sensitivity": (0.828, 0.75, 0.9),
        "specificity": (0.783, 0.69, 0.86),
        "precision": (0.772, 0.68, 0.86),
        **changed,
    }
    return {
        "prevalence": 0.487,
        "intervals": {"replicates": 2000, "confidence": 0.95, "clustered_by": clustered_by},
        "metrics": {
            name: dict(zip(("value", "low", "high"), values, strict=True)) for name, values in measures.items()
        },
    }


def data_report(*, n_unknown: int = 0, n_patients: int = 640, sources: dict[str, bool] | None = None) -> dict[str, Any]:
    sources = {"films": True} if sources is None else sources
    return {
        "phantom": False,
        "n_films": 791,
        "n_patients": n_patients,
        "n_films_without_patient": n_unknown,
        "sources": {name: {"has_patients": has_patients} for name, has_patients in sources.items()},
    }


def counts(**test: int) -> dict[str, dict[str, int | None]]:
    return {
        "train": {"nofinding": 1284, "effusion": 270, "patients": 500},
        "validation": {"nofinding": 61, "effusion": 57, "patients": 70},
        "test": {"nofinding": 61, "effusion": 58, "patients": 70, **test},
    }


UNDEFINED = (None, None, None)


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
    sentence = wording.what_was_trained(CLASSES, model)
    assert start in sentence
    assert "7,168,833 parameters" in sentence
    assert "tell films labelled effusion from films labelled nofinding" in sentence
    assert "224 x 224" in sentence
    assert "/home" not in sentence


def test_on_whom_counts_films_and_patients():
    sentence = wording.on_whom(data_report(), counts())
    assert "learned from 1,554 films. 118 others" in sentence
    assert "tested on 119" in sentence
    assert "the source “films”. They are of 640 patients" in sentence
    assert "program" not in sentence


def test_on_whom_says_whose_patients_are_unknown_and_which_films_are_drawn():
    assert "Whose films they are is not known." in wording.on_whom(data_report(n_unknown=791, n_patients=0), counts())
    partly = data_report(n_unknown=1200, sources={"a": True, "b": False, "c": True})
    assert "the sources “a”, “b” and “c”. All but 1,200 of them are of 640 patients" in wording.on_whom(
        partly, counts()
    )
    assert "drawn by a program" in wording.on_whom({**data_report(), "phantom": True}, counts())


def test_how_good_speaks_of_a_hundred_films():
    sentences = wording.how_good(metrics_of(), CLASSES)
    assert "in about 89 (AUC 0.889; guessing gets 50)." in sentences
    assert "Of 100 films labelled effusion about 83 are found." in sentences
    assert "Of 100 films labelled nofinding about 78 are rightly called so." in sentences
    assert "Of 100 films that it calls effusion about 77 are labelled so, where 49 of 100 films are" in sentences
    assert "no good" not in sentences


def test_how_good_leaves_out_what_is_not_defined():
    sentences = wording.how_good(metrics_of(auc=UNDEFINED, specificity=UNDEFINED, precision=UNDEFINED), CLASSES)
    assert "about 83 are found" in sentences
    assert "rightly" not in sentences
    assert "that it calls" not in sentences
    assert "pairs" not in sentences
    assert sentences.startswith("Nobody can tell")


def test_how_good_begins_with_a_bad_verdict():
    assert wording.how_good(metrics_of(auc=(0.55, 0.4, 0.7)), CLASSES).startswith("This model is no good")


def test_how_sure_gives_intervals_and_how_they_were_drawn():
    by_patient = wording.how_sure(metrics_of())
    assert by_patient.startswith(
        "With 95 % confidence, the AUC lies between 0.851 and 0.924, the sensitivity lies between"
    )
    assert "(2,000 bootstrap replicates; patients drawn whole" in by_patient
    assert "films drawn one by one" in wording.how_sure(metrics_of("film"))


def test_how_sure_leaves_out_what_has_no_interval():
    assert "the AUC" not in wording.how_sure(metrics_of(auc=(0.9, None, None)))
    none = metrics_of(auc=UNDEFINED, sensitivity=UNDEFINED, specificity=(0.5, None, None))
    assert wording.how_sure(none) == "No interval could be computed from these test films."


def test_not_for_rules_out_patients_and_other_sources():
    text = " ".join(wording.not_for(CLASSES, data_report(sources={"kermany": True})))
    for expected in (
        "not a medical device",
        "research",
        "decision about a patient",
        "only on films from the source “kermany”",
    ):
        assert expected in text


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
def test_no_good(auc, words):
    verdict = wording.no_good(metrics_of(auc=auc))
    assert verdict is None if words is None else words in verdict


@settings(deadline=None)
@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_a_model_whose_interval_reaches_guessing_is_never_left_without_a_verdict(one, two, three):
    low, value, high = sorted((one, two, three))
    verdict = wording.no_good(metrics_of(auc=(value, low, high)))
    assert (verdict is None) == (low > 0.5 and value >= wording.POOR_AUC)


@pytest.mark.parametrize(
    ("sensitivity", "specificity", "name"),
    [
        (1, 0, "film effusion"),
        (0, 1, "film nofinding"),
        (0.98, 0.04, "film effusion"),
        (0.94, 0.06, None),
        (0, 0, None),
    ],
)
def test_collapsed(sensitivity, specificity, name):
    metrics = metrics_of(sensitivity=(sensitivity, None, None), specificity=(specificity, None, None))
    warning = wording.collapsed(metrics, CLASSES)
    assert warning is None if name is None else name in warning


def test_collapse_cannot_be_told_from_one_class():
    assert wording.collapsed(metrics_of(specificity=UNDEFINED), CLASSES) is None


def test_policy_missed_gives_the_message_of_the_policy():
    assert wording.policy_missed(RULE) is None
    assert wording.policy_missed({**RULE, "policy_met": False}).endswith(RULE["message"])


def test_patients_unknown_names_the_sources_that_do_not_say():
    assert wording.patients_unknown(metrics_of(), data_report()) is None
    silent = data_report(n_unknown=791, n_patients=0, sources={"films": False})
    warning = wording.patients_unknown(metrics_of("film"), silent)
    assert "791 of 791 films (the source “films” does not say)" in warning
    assert "may be in training and in test" in warning
    assert "intervals are by film, and" in warning


def test_patients_unknown_of_some_films():
    two = data_report(n_unknown=9, sources={"a": False, "b": True, "c": False})
    warning = wording.patients_unknown(metrics_of(), two)
    assert "(the sources “a” and “c” do not say)" in warning
    assert "by film where the patient is not known" in warning
    unmatched = wording.patients_unknown(metrics_of(), data_report(n_unknown=9))
    assert "9 of 791 films. One patient's" in unmatched


def test_few_test_films_counts_them():
    assert wording.few_test_films(counts(nofinding=30, effusion=30), CLASSES) is None
    assert "few test films: 29 labelled effusion." in wording.few_test_films(counts(effusion=29), CLASSES)
    both = wording.few_test_films(counts(nofinding=3, effusion=0), CLASSES)
    assert "3 labelled nofinding and 0 labelled effusion" in both


def test_a_good_run_has_no_warnings():
    assert wording.warnings(metrics_of(), RULE, data_report(), counts(), CLASSES) == []


def test_warnings_come_together_the_worst_first():
    bad = metrics_of("film", auc=(0.5, 0.4, 0.6), sensitivity=(1, 1, 1), specificity=(0, 0, 0))
    silent = data_report(n_unknown=791, n_patients=0, sources={"films": False})
    found = wording.warnings(bad, {**RULE, "policy_met": False}, silent, counts(effusion=2), CLASSES)
    words = ("no good", "collapsed", "policy", "patient is not known", "few test films")
    assert len(found) == len(words)
    assert all(word in warning for word, warning in zip(words, found, strict=True))
