"""What ``metrics.json`` says."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from cxr_pipeline.evaluation.decision_rule import fit_decision_rule
from cxr_pipeline.evaluation.evaluate import (
    evaluate,
    evaluate_policies,
    evaluate_sources,
    flatten_metrics,
    images_digest,
)
from cxr_pipeline.evaluation.score_tables import columns_of, decide

BOOTSTRAP = {"replicates": 100, "confidence": 0.95, "seed": 1}


def score_images(outputs, n_images: int = 90, *, exclusive: bool = False, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    k = len(outputs)
    if exclusive:
        true = np.eye(k)[rng.permutation(np.arange(n_images) % k)]
        raw = true + rng.random((n_images, k))
        score = raw / raw.sum(axis=1, keepdims=True)
    else:
        true = (rng.random((n_images, k)) < 0.4).astype(float)
        score = np.clip(0.3 * true + 0.7 * rng.random((n_images, k)), 0, 1)
    numbers = np.arange(n_images)
    table = pd.DataFrame(
        {
            "source": np.where(numbers % 3 == 0, "children", "adults"),
            "image": numbers.astype(str),
            "sha256": numbers.astype(str),
            "patient_id": (numbers // 2).astype(str),
        }
    )
    for column, output in enumerate(outputs):
        table[f"true_{output}"], table[f"score_{output}"] = true[:, column], score[:, column]
    return table


def rule_for(table, outputs, kind, classes, policy):
    y_true, y_score = columns_of(table, "true", outputs), columns_of(table, "score", outputs)
    return fit_decision_rule(y_true, y_score, kind=kind, classes=classes, calibration="none", policy=policy)


@pytest.fixture
def binary():
    validation = score_images(["effusion"], seed=1)
    rule = rule_for(validation, ["effusion"], "binary", ("nofinding", "effusion"), {"rule": "youden"})
    return validation, decide(score_images(["effusion"]), rule), rule


SETTINGS = {"outputs": ("effusion",), "exclusive": False, "bootstrap": BOOTSTRAP}


def test_a_binary_task_has_one_prevalence_and_its_class_is_the_whole(binary) -> None:
    _, test, _ = binary
    found = evaluate(test, **SETTINGS)
    assert found["prevalence"] == pytest.approx(test["true_effusion"].mean())
    assert found["metrics"] == found["per_class"]["effusion"]
    assert found["n_images"] == 90
    assert found["intervals"]["clustered_by"] == "patient"
    assert found["n_patients"] == (test["source"] + test["patient_id"]).nunique()
    assert "majority" not in found
    json.dumps(found)


def test_without_patients_images_are_drawn(binary) -> None:
    _, test, _ = binary
    found = evaluate(test.assign(patient_id=pd.Series([None] * len(test), dtype="str")), **SETTINGS)
    assert found["n_patients"] is None
    assert found["intervals"]["clustered_by"] == "image"


def test_exclusive_classes_are_set_beside_the_commonest_one() -> None:
    outputs = ("normal", "mass", "nodule")
    table = score_images(outputs, exclusive=True)
    rule = rule_for(table, outputs, "multiclass", outputs, {"rule": "argmax"})
    found = evaluate(decide(table, rule), outputs=outputs, exclusive=True, bootstrap=BOOTSTRAP)
    assert found["majority"]["accuracy"] == pytest.approx(1 / 3)
    assert set(found["prevalence"]) == set(found["per_class"]) == set(outputs)
    mean = np.mean([found["per_class"][name]["auc"]["value"] for name in outputs])
    assert found["metrics"]["auc"]["value"] == pytest.approx(mean)


def test_each_source_is_measured_alone(binary) -> None:
    _, test, _ = binary
    found = evaluate_sources(test, **SETTINGS)["per_source"]
    assert set(found) == {"children", "adults"}
    children = test[test["source"] == "children"]
    auc = roc_auc_score(children["true_effusion"], children["probability_effusion"])
    assert found["children"]["metrics"]["auc"]["value"] == pytest.approx(auc)
    assert found["children"]["n_images"] == len(children)
    assert evaluate_sources(children, **SETTINGS) == {}


def test_other_policies_are_measured_beside_the_chosen_one(binary) -> None:
    validation, test, rule = binary
    policies = [{"rule": "fixed", "value": 0.3}, {"rule": "fixed", "value": 0.5}]
    measured = evaluate(test, **SETTINGS)["metrics"]
    found = evaluate_policies(validation, test, rule, policies, chosen=measured, **SETTINGS)
    chosen, low, high = found["policies"]
    assert [chosen["chosen"], low["chosen"], high["chosen"]] == [True, False, False]
    assert chosen["metrics"] == measured
    assert low["thresholds"] == {"effusion": 0.3}
    assert low["metrics"]["sensitivity"]["value"] > high["metrics"]["sensitivity"]["value"]
    assert low["metrics"]["auc"] == high["metrics"]["auc"]
    assert evaluate_policies(validation, test, rule, [], chosen=measured, **SETTINGS) == {}


LABELS = st.lists(st.tuples(st.sampled_from([0.0, 1.0, np.nan]), st.sampled_from([0.0, 1.0, np.nan])), min_size=1)


def labelled(labels) -> pd.DataFrame:
    """A score table of images with two labels; images are named by their number."""
    return pd.DataFrame(labels, columns=["true_mass", "true_edema"]).assign(sha256=[str(n) for n in range(len(labels))])


@given(LABELS, st.randoms(use_true_random=False))
def test_the_order_of_images_and_outputs_does_not_make_other_test_images(labels, random) -> None:
    table = labelled(labels)
    shuffled = table.iloc[random.sample(range(len(table)), len(table))].assign(score_mass=0.5)
    digest = images_digest(table, ["mass", "edema"])
    assert len(digest) == 64
    assert images_digest(shuffled, ["edema", "mass"]) == digest


@given(LABELS, st.data())
def test_another_label_or_another_image_makes_other_test_images(labels, data) -> None:
    table, outputs = labelled(labels), ["mass", "edema"]
    digests = [images_digest(table, outputs), images_digest(table.iloc[1:], outputs), images_digest(table, ["mass"])]
    image, output = data.draw(st.integers(0, len(labels) - 1)), data.draw(st.sampled_from(outputs))
    for other in {"0", "1", "nan"} - {f"{table[f'true_{output}'].iloc[image]:g}"}:
        relabelled = table.copy()
        relabelled.loc[image, f"true_{output}"] = float(other)
        digests.append(images_digest(relabelled, outputs))
    digests.append(images_digest(table.assign(sha256="other " + table["sha256"]), outputs))
    assert len(set(digests)) == len(digests)


def test_labels_belong_to_their_outputs() -> None:
    table = labelled([(1.0, 0.0)])
    swapped = table.rename(columns={"true_mass": "true_edema", "true_edema": "true_mass"})
    assert images_digest(table, ["mass", "edema"]) != images_digest(swapped, ["mass", "edema"])
    renamed = table.rename(columns={"true_mass": "true_nodule"})
    assert images_digest(table, ["mass", "edema"]) != images_digest(renamed, ["nodule", "edema"])


def test_metrics_are_flattened_to_names_that_sort() -> None:
    metrics = {
        "split": "test",
        "n_images": 40,
        "n_patients": None,
        "prevalence": 0.25,
        "thresholds": {"effusion": 0.375},
        "metrics": {
            "auc": {"value": 0.875, "low": 0.75, "high": 0.9375},
            "precision": {"value": None, "low": None, "high": None},
        },
        "per_class": {"effusion": {"f1": {"value": 0.5, "low": 0.25, "high": float("nan")}}},
    }
    assert flatten_metrics(metrics) == {
        "test/n_images": 40,
        "test/prevalence": 0.25,
        "threshold/effusion": 0.375,
        "test/auc": 0.875,
        "test/auc_low": 0.75,
        "test/auc_high": 0.9375,
        "test/effusion/f1": 0.5,
        "test/effusion/f1_low": 0.25,
    }
