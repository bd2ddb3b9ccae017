import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_pipeline.evaluation.decision_rule import fit_decision_rule
from cxr_pipeline.evaluation.evaluate import (
    evaluate,
    evaluate_policies,
    evaluate_sources,
    flatten_metrics,
    images_digest,
)
from cxr_pipeline.evaluation.score_tables import columns_of

BOOTSTRAP = {"replicates": 100, "confidence": 0.95, "seed": 1}
OPTIONS = {"outputs": ("effusion",), "exclusive": False, "bootstrap": BOOTSTRAP}


@pytest.fixture(scope="module")
def draw_table(decided_table):
    """Draw a score table of a binary task, with two images per patient and two sources."""

    def draw(seed):
        rng = np.random.default_rng(seed)
        y_true = (rng.random((90, 1)) < 0.4).astype(float)
        source, patients = np.where(np.arange(90) % 3, "adults", "children"), (np.arange(90) // 2).astype(str)
        score = np.clip(0.3 * y_true + 0.7 * rng.random((90, 1)), 0, 1)
        return decided_table(y_true, score, ("effusion",), source=source, patient_id=patients)

    return draw


def test_a_binary_task_has_one_prevalence_and_the_metrics_of_its_output(draw_table):
    table = draw_table(0)

    found = evaluate(table, **OPTIONS)

    assert found["prevalence"] == pytest.approx(table["true_effusion"].mean())
    assert found["metrics"] == found["per_class"]["effusion"]
    assert (found["n_images"], found["intervals"]["clustered_by"]) == (90, "patient")
    assert found["n_patients"] == (table["source"] + table["patient_id"]).nunique()
    assert "majority" not in found
    json.dumps(found, allow_nan=False)
    unknown = evaluate(table.assign(patient_id=pd.Series([None] * 90, dtype="str")), **OPTIONS)
    assert (unknown["n_patients"], unknown["intervals"]["clustered_by"]) == (None, "image")


def test_exclusive_classes_are_compared_with_the_most_frequent_one(decided_table):
    outputs, y_true = ("normal", "mass", "nodule"), np.eye(3)[[0, 1, 1, 2] * 15]
    found = evaluate(
        decided_table(y_true, 0.1 + 0.7 * y_true, outputs), outputs=outputs, exclusive=True, bootstrap=BOOTSTRAP
    )
    assert found["majority"] == {"class": "mass", "accuracy": 0.5}
    assert found["prevalence"] == {"normal": 0.25, "mass": 0.5, "nodule": 0.25}


def test_each_source_is_evaluated_on_its_own(draw_table):
    table = draw_table(0)
    children = table[table["source"] == "children"]
    found = evaluate_sources(table, **OPTIONS)["per_source"]
    assert set(found) == {"children", "adults"}
    alone = evaluate(children, **OPTIONS)
    assert found["children"] == {name: alone[name] for name in ("n_images", "metrics", "per_class")}
    assert evaluate_sources(children, **OPTIONS) == {}


def test_other_policies_are_evaluated_beside_the_chosen_one(draw_table):
    test, validation = draw_table(0), draw_table(1)
    images = (columns_of(validation, prefix, ("effusion",)) for prefix in ("true", "score"))
    options = {"kind": "binary", "classes": ("nofinding", "effusion"), "calibration": "none"}
    rule = fit_decision_rule(*images, **options, policy={"rule": "youden"})
    policies = [{"rule": "fixed", "value": 0.3}, {"rule": "fixed", "value": 0.5}]
    metrics = evaluate(test, **OPTIONS)["metrics"]

    chosen, low, high = evaluate_policies(validation, test, rule, policies, chosen=metrics, **OPTIONS)["policies"]

    assert [chosen["chosen"], low["chosen"], high["chosen"]] == [True, False, False]
    assert chosen["metrics"] == metrics
    assert (low["policy"], low["thresholds"]) == (policies[0], {"effusion": 0.3})
    assert low["metrics"]["sensitivity"]["value"] > high["metrics"]["sensitivity"]["value"]
    assert low["metrics"]["auc"] == high["metrics"]["auc"]
    assert evaluate_policies(validation, test, rule, [], chosen=metrics, **OPTIONS) == {}


LABEL = st.sampled_from([0.0, 1.0, np.nan])


@settings(max_examples=40)
@given(st.lists(st.tuples(LABEL, LABEL), min_size=1, max_size=9), st.randoms(use_true_random=False), st.data())
def test_the_digest_depends_on_images_and_labels_alone(labels, random, data):
    outputs = ["mass", "edema"]
    table = pd.DataFrame(labels, columns=["true_mass", "true_edema"]).assign(
        sha256=[str(n) for n in range(len(labels))]
    )
    digest = images_digest(table, outputs)
    assert len(digest) == 64
    shuffled = table.iloc[random.sample(range(len(table)), len(table))].assign(score_mass=0.5)
    assert images_digest(shuffled, outputs[::-1]) == digest

    others = [images_digest(table.iloc[1:], outputs), images_digest(table, ["mass"])]
    others.append(images_digest(table.assign(sha256="other " + table["sha256"]), outputs))
    others.append(images_digest(table.rename(columns={"true_mass": "true_nodule"}), ["nodule", "edema"]))
    image, output = data.draw(st.integers(0, len(labels) - 1)), data.draw(st.sampled_from(outputs))
    for label in {"0", "1", "nan"} - {f"{table[f'true_{output}'].iloc[image]:g}"}:
        relabelled = table.copy()
        relabelled.loc[image, f"true_{output}"] = float(label)
        others.append(images_digest(relabelled, outputs))
    assert len({digest, *others}) == len(others) + 1


def test_metrics_are_flattened_to_names_for_mlflow():
    metrics = {
        **{"split": "test", "n_images": 40, "n_patients": None, "prevalence": 0.25, "thresholds": {"effusion": 0.375}},
        "metrics": {"auc": {"value": 0.875, "low": 0.75, "high": 0.9375}, "precision": {"value": None}},
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
