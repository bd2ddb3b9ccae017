import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_scores import decided_table
from stub_models import fixed_rule, grey_network, score

from cxr_pipeline.data.images.recipe import Recipe
from cxr_pipeline.data.sources.readers import FileReader, content_hashes
from cxr_pipeline.deployment.classifier import ImageClassifier
from cxr_pipeline.deployment.promotion import BETTER, BETTER_OR_NEWER, compare, decide, score_images

RULE = {
    "floors": {"auc": 0.7, "specificity": 0.5},
    "sensitivity_margin": 0.05,
    "auc_margin": 0.02,
    "improvement": BETTER_OR_NEWER,
    "newer_data": True,
}
METRICS = {"auc": {"value": 0.9}, "sensitivity": {"value": 0.8}, "specificity": {"value": 0.6}}
BOOTSTRAP = {"replicates": 300, "confidence": 0.95, "seed": 3}


def differences(*, auc=0.0, sensitivity=0.0):
    """Differences whose intervals begin at these values."""
    return {"auc": {"low": auc}, "sensitivity": {"low": sensitivity}}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"specificity": {"value": 0.49}}, "Specificity 0.490 does not reach its floor of 0.500."),
        ({"auc": {"value": None}}, "AUC (not defined) does not reach its floor of 0.700."),
        ({"auc": {"value": 1.0, "too_few_patients": 2}}, "AUC 1.000 is of too few patients (2) to reach a floor."),
        ({"auc": {"value": 0.7}}, "There is no champion, and this version reaches every floor."),
    ],
)
def test_the_reasons_name_floors_that_are_not_reached(changes, reason):
    assert decide(METRICS | changes, None, **RULE).reasons == [reason]


def test_the_reasons_name_the_differences_that_are_too_small():
    decision = decide(METRICS, differences(auc=0.1, sensitivity=-0.05), **RULE)
    assert decision.reasons == ["The lower end of the difference in sensitivity, -0.050, is not above -0.050."]
    names = [condition.name for condition in decision.comparison]
    assert names == ["sensitivity not worse", "AUC better", "AUC not worse"]
    # A small negative difference is not printed as minus zero.
    decision = decide(METRICS, differences(auc=-0.0001), **{**RULE, "auc_margin": 0.0})
    assert decision.reasons[0] == "The lower end of the difference in AUC, +0.000, is not above +0.000."


low_ends = st.none() | st.sampled_from([-0.05, -0.02, 0.0, 0.02]) | st.floats(-1, 1)
rules = st.fixed_dictionaries(
    {
        "floors": st.dictionaries(st.sampled_from(list(METRICS)), st.floats(0, 1)),
        "sensitivity_margin": st.just(0.05) | st.floats(0, 1),
        "auc_margin": st.just(0.02) | st.floats(0, 1),
        "improvement": st.sampled_from([BETTER, BETTER_OR_NEWER]),
        "newer_data": st.booleans(),
    }
)
values = st.fixed_dictionaries(
    {name: st.fixed_dictionaries({"value": st.none() | st.floats(0, 1)}) for name in METRICS}
)


@given(values, low_ends, low_ends, rules)
def test_the_rule_follows_its_definition(metrics, auc, sensitivity, rule):
    decision = decide(metrics, differences(auc=auc, sensitivity=sensitivity), **rule)
    reached = all(
        metrics[name]["value"] is not None and metrics[name]["value"] >= floor for name, floor in rule["floors"].items()
    )
    kept = sensitivity is not None and sensitivity > -rule["sensitivity_margin"]
    better = auc is not None and auc > 0
    as_good = auc is not None and auc > -rule["auc_margin"]
    newer = rule["improvement"] == BETTER_OR_NEWER and rule["newer_data"]
    assert decision.promoted == (reached and kept and (better or (as_good and newer)))
    assert decision.reasons
    first = decide(metrics, None, **rule)
    assert (first.promoted, first.comparison) == (reached, [])


def table(seed, *, noise, threshold=0.5, n=120):
    """Return a score table with decisions; more noise makes the model worse."""
    labels = np.arange(n) % 2
    score = np.clip(labels * 0.4 + 0.3 + noise * np.random.default_rng(seed).standard_normal(n), 0, 1)
    labels, score = labels.astype(float)[:, None], score[:, None]
    patients = [f"{number // 3}" for number in range(n)]
    return decided_table(labels, score, ["ill"], predicted=score >= threshold, patient_id=patients)


def compared(challenger, champion):
    return compare(challenger, champion, outputs=["ill"], exclusive=False, bootstrap=BOOTSTRAP)


def test_models_are_compared_on_the_images_that_both_scored():
    found = compared(table(1, noise=0.2), table(2, noise=0.2).iloc[5:].sample(frac=1, random_state=1))
    assert (found["n_images"], found["n_patients"], found["n_left_out"]) == (115, 39, 5)
    for name in ("auc", "sensitivity", "specificity", "balanced_accuracy"):
        expected = found["challenger"][name]["value"] - found["champion"][name]["value"]
        assert found["differences"][name]["value"] == pytest.approx(expected)
        assert found["differences"][name]["low"] <= expected <= found["differences"][name]["high"]
    unknown = table(1, noise=0.2).assign(patient_id=None)
    assert compared(unknown, unknown)["n_patients"] is None


def test_sensitivity_is_compared_at_the_threshold_of_each_model():
    lenient, strict = table(1, noise=0.2, threshold=0.3), table(1, noise=0.2, threshold=0.7)
    assert compared(strict, lenient)["differences"]["auc"]["value"] == 0
    decision = decide(METRICS, compared(strict, lenient)["differences"], **RULE)
    assert decision.reasons[0].startswith("The lower end of the difference in sensitivity")
    assert decide(METRICS, compared(lenient, strict)["differences"], **RULE).promoted


def test_a_few_patients_do_not_show_that_a_challenger_is_not_worse():
    champion, challenger = (table(seed, noise=0.05).iloc[:30] for seed in (1, 2))
    found = compared(challenger, champion)["differences"]
    assert found["sensitivity"]["value"] == 0
    decision = decide(METRICS, found, **RULE)
    assert decision.reasons[0] == "The lower end of the difference in sensitivity, -0.299, is not above -0.050."
    few = compared(*(each[each["true_ill"] + (each.index < 6) > 0] for each in (challenger, champion)))["differences"]
    reasons = decide(METRICS, few, **RULE).reasons
    assert "The test images are of too few patients (2) to show a difference in AUC." in reasons
    assert decide(METRICS, few, **{**RULE, "auc_margin": 1, "sensitivity_margin": 1}).promoted


def test_images_are_scored_with_the_recipe_and_rule_of_the_champion(tmp_path):
    steps = ({"operation": "denoise", "size": 3},)
    recipe = Recipe(size=32, mode="stretch", max_megapixels=0.005, steps=steps)
    champion = ImageClassifier(grey_network(32), recipe, fixed_rule(("well", "ill"), calibration="platt"), {})
    names, rng = [f"{number}.png" for number in range(4)], np.random.default_rng(5)
    for name, side in zip(names, (50, 60, 40, 90), strict=True):
        cv2.imwrite(str(tmp_path / name), rng.integers(0, 256, (side, 60), np.uint8))
    reader = FileReader(tmp_path)
    images = pd.DataFrame({"source": "a", "image": names, "path": names, "patient_id": list("ppqq")})
    images = images.assign(sha256=content_hashes(reader, names)["sha256"], label_ill=[0.0, 1.0, np.nan, 1.0])
    scores = score_images(champion, images, {"a": reader}, outputs=("ill",), folder=tmp_path / "store", workers=1)
    # The last image exceeds the limit of the champion.
    assert scores["image"].tolist() == names[:3]
    expected = score(champion, [(tmp_path / name).read_bytes() for name in names])
    assert expected["status"].tolist() == ["scored"] * 3 + ["refused"]
    np.testing.assert_allclose(scores["probability_ill"], expected["probability"][:3], atol=1e-6)
    assert scores["decision"].tolist() == expected["decision"][:3].tolist()
    assert scores["predicted_ill"].tolist() == (scores["decision"] == "ill").tolist()
    np.testing.assert_array_equal(scores["true_ill"], images["label_ill"][:3])
    assert scores["patient_id"].tolist() == ["p", "p", "q"]
