from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxr_pipeline.deployment.promotion import BETTER, BETTER_OR_NEWER, compare, decide

FLOORS = {"auc": 0.7, "specificity": 0.5}
RULE: dict[str, Any] = {
    "floors": FLOORS,
    "sensitivity_margin": 0.05,
    "auc_margin": 0.02,
    "improvement": BETTER_OR_NEWER,
    "newer_data": True,
}
GOOD = {"auc": {"value": 0.9}, "sensitivity": {"value": 0.8}, "specificity": {"value": 0.6}}
BOOTSTRAP = {"replicates": 300, "confidence": 0.95, "seed": 3}


def differences(*, auc: float | None = 0.0, sensitivity: float | None = 0.0) -> dict[str, dict[str, float | None]]:
    """Those of a challenger whose intervals begin here."""
    return {"auc": {"low": auc}, "sensitivity": {"low": sensitivity}}


def with_value(name: str, value: float | None) -> dict[str, dict[str, float | None]]:
    return {**GOOD, name: {"value": value}}


def test_a_first_version_needs_the_floors_alone() -> None:
    decision = decide(GOOD, None, **RULE)
    assert decision.promoted
    assert decision.comparison == ()
    assert [condition.met for condition in decision.floors] == [True, True]
    assert decision.reasons == (
        "There is no champion to compare it with: it is promoted because it reaches every floor.",
    )


def test_a_floor_that_is_not_reached_is_named_with_figure_and_bound() -> None:
    decision = decide(with_value("specificity", 0.49), None, **RULE)
    assert not decision.promoted
    assert decision.reasons == ("Specificity 0.490 does not reach its floor of 0.500.",)
    assert [condition.met for condition in decision.floors] == [True, False]


def test_a_floor_itself_is_enough_and_what_is_not_defined_is_not() -> None:
    assert decide(with_value("auc", 0.7), None, **RULE).promoted
    undefined = decide(with_value("auc", None), None, **RULE)
    assert undefined.reasons == ("AUC (not defined) does not reach its floor of 0.700.",)


def test_better_is_enough_without_newer_data() -> None:
    for improvement in (BETTER, BETTER_OR_NEWER):
        rule = {**RULE, "improvement": improvement, "newer_data": False}
        assert decide(GOOD, differences(auc=0.001), **rule).promoted
        assert not decide(GOOD, differences(auc=0.0), **rule).promoted


def test_as_good_is_enough_with_newer_data() -> None:
    assert decide(GOOD, differences(auc=-0.019), **RULE).promoted
    assert not decide(GOOD, differences(auc=-0.02), **RULE).promoted
    stale = decide(GOOD, differences(auc=-0.019), **{**RULE, "newer_data": False})
    assert not stale.promoted
    assert stale.reasons[-1].startswith("It did not learn from newer images or labels")
    assert not decide(GOOD, differences(auc=-0.019), **{**RULE, "improvement": BETTER}).promoted


def test_a_loss_of_sensitivity_outweighs_a_better_auc() -> None:
    assert decide(GOOD, differences(auc=0.1, sensitivity=-0.049), **RULE).promoted
    decision = decide(GOOD, differences(auc=0.1, sensitivity=-0.05), **RULE)
    assert not decision.promoted
    assert decision.reasons == ("The lower end of the difference in sensitivity, -0.050, is not above -0.050.",)
    assert [condition.name for condition in decision.comparison] == [
        "sensitivity not worse",
        "AUC better",
        "AUC not worse",
    ]


def test_a_floor_counts_beside_a_champion_too() -> None:
    assert not decide(with_value("auc", 0.69), differences(auc=0.1), **RULE).promoted


def test_a_difference_that_is_not_defined_promotes_nobody() -> None:
    assert not decide(GOOD, differences(sensitivity=None), **RULE).promoted
    assert not decide(GOOD, differences(auc=None), **RULE).promoted


def test_another_rule_is_a_mistake() -> None:
    with pytest.raises(ValueError, match=r"better_or_newer.*Received: improvement='best'"):
        decide(GOOD, None, **{**RULE, "improvement": "best"})


maybe = st.none() | st.floats(-1, 1)
rules = st.fixed_dictionaries(
    {
        "floors": st.dictionaries(st.sampled_from(list(GOOD)), st.floats(0, 1)),
        "sensitivity_margin": st.floats(0, 1),
        "auc_margin": st.floats(0, 1),
        "improvement": st.sampled_from([BETTER, BETTER_OR_NEWER]),
        "newer_data": st.booleans(),
    }
)
values = st.fixed_dictionaries({name: st.fixed_dictionaries({"value": st.none() | st.floats(0, 1)}) for name in GOOD})


@given(values, maybe, maybe, rules)
def test_the_rule_is_what_it_says(metrics: Any, auc: float | None, sensitivity: float | None, rule: Any) -> None:
    decision = decide(metrics, differences(auc=auc, sensitivity=sensitivity), **rule)
    reached = all((metrics[name]["value"] or 0) >= floor for name, floor in rule["floors"].items())
    reached = reached and all(metrics[name]["value"] is not None for name in rule["floors"])
    kept = sensitivity is not None and sensitivity > -rule["sensitivity_margin"]
    ahead = auc is not None and auc > 0
    level = auc is not None and auc > -rule["auc_margin"]
    newer = rule["improvement"] == BETTER_OR_NEWER and rule["newer_data"]
    assert decision.promoted == (reached and kept and (ahead or (level and newer)))
    assert decision.reasons


@given(values, maybe, maybe, rules, st.floats(0, 1))
def test_a_stricter_rule_never_promotes_more(
    metrics: Any, auc: float | None, sensitivity: float | None, rule: Any, stricter: float
) -> None:
    found = differences(auc=auc, sensitivity=sensitivity)
    strict = [
        {**rule, "floors": {**rule["floors"], "auc": max(stricter, rule["floors"].get("auc", 0))}},
        {**rule, "sensitivity_margin": min(stricter, rule["sensitivity_margin"])},
        {**rule, "auc_margin": min(stricter, rule["auc_margin"])},
        {**rule, "improvement": BETTER},
        {**rule, "newer_data": False},
    ]
    promoted = decide(metrics, found, **rule).promoted
    assert promoted >= max(decide(metrics, found, **each).promoted for each in strict)


def table(seed: int, *, noise: float, threshold: float = 0.5, n: int = 120) -> pd.DataFrame:
    """A decided score table: the more noise, the worse."""
    labels = np.arange(n) % 2
    score = np.clip(labels * 0.4 + 0.3 + noise * np.random.default_rng(seed).standard_normal(n), 0, 1)
    return pd.DataFrame(
        {
            "source": "images",
            "image": [f"{number}.png" for number in range(n)],
            "patient_id": [f"{number // 3}" for number in range(n)],
            "true_ill": labels.astype(float),
            "score_ill": score,
            "probability_ill": score,
            "called_ill": score >= threshold,
        }
    )


def judged(challenger: pd.DataFrame, champion: pd.DataFrame) -> Any:
    return compare(challenger, champion, outputs=["ill"], exclusive=False, bootstrap=BOOTSTRAP)


def test_two_models_are_compared_on_the_images_that_both_have_judged() -> None:
    found = judged(table(1, noise=0.2), table(2, noise=0.2).iloc[5:].sample(frac=1, random_state=1))
    assert (found.n_images, found.n_patients, found.n_left_out) == (115, 39, 5)
    for name in ("auc", "sensitivity", "specificity", "balanced_accuracy"):
        expected = found.challenger[name]["value"] - found.champion[name]["value"]
        assert found.differences[name]["value"] == pytest.approx(expected)
        assert found.differences[name]["low"] <= expected <= found.differences[name]["high"]


def test_the_comparison_knows_who_is_the_challenger() -> None:
    good, bad = table(1, noise=0.1), table(2, noise=1.0)
    assert decide(GOOD, judged(good, bad).differences, **RULE).promoted
    decision = decide(GOOD, judged(bad, good).differences, **RULE)
    assert not decision.promoted
    assert all(not condition.met for condition in decision.comparison)


def test_a_model_is_not_worse_than_itself() -> None:
    same = table(1, noise=0.3)
    found = judged(same, same).differences
    assert decide(GOOD, found, **RULE).promoted
    assert not decide(GOOD, found, **{**RULE, "newer_data": False}).promoted


def test_sensitivity_is_compared_at_each_ones_own_threshold() -> None:
    lenient, strict = table(1, noise=0.2, threshold=0.3), table(1, noise=0.2, threshold=0.7)
    assert judged(strict, lenient).differences["auc"]["value"] == 0
    decision = decide(GOOD, judged(strict, lenient).differences, **RULE)
    assert decision.reasons[0].startswith("The lower end of the difference in sensitivity")
    assert decide(GOOD, judged(lenient, strict).differences, **RULE).promoted


def test_patients_that_are_not_known_are_not_counted() -> None:
    unknown = table(1, noise=0.2).assign(patient_id=None)
    assert judged(unknown, unknown).n_patients is None
