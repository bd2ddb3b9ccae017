import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_scores import decided_table

from cxr_pipeline.evaluation.evaluate import evaluate
from cxr_pipeline.evaluation.subgroups import age_bands, evaluate_subgroups

BOOTSTRAP = {"replicates": 100, "confidence": 0.9, "seed": 1}
N_IMAGES = 240
SEX = np.array(["F", "M", None], dtype=object)[np.arange(N_IMAGES) % 3]


@pytest.fixture(scope="module")
def table():
    """Decided scores of 240 images of 120 patients for four outputs; the last one has only four positive images."""
    rng = np.random.default_rng(3)
    y_true = (rng.random((N_IMAGES, 4)) < 0.4).astype(float)
    y_true[:, 3] = np.arange(N_IMAGES) < 4
    probability = np.clip(0.2 * y_true + 0.8 * rng.random(y_true.shape), 0, 1)
    patients = [str(number // 2) for number in range(N_IMAGES)]
    return decided_table(y_true, probability, ("ill", "mass", "nodule", "hernia"), patient_id=patients)


def subgroups_of(table, *outputs, **columns):
    """Evaluate the subgroups of a table, with columns of the manifest to replace."""
    known = {"sex": SEX, "age": np.linspace(0, 100, N_IMAGES), "view": "PA", **columns}
    manifest = pd.DataFrame({"source": "nih", "image": [f"{number:04}" for number in range(N_IMAGES)], **known})
    options = {"ages": (5, 18, 65), "min_patients": 10, "bootstrap": BOOTSTRAP}
    return evaluate_subgroups(table, manifest.sample(frac=1, random_state=1), outputs=outputs or ("ill",), **options)


def test_a_group_has_the_metrics_of_its_images_alone(table):
    group = subgroups_of(table)["sex"]["groups"]["F"]
    alone = evaluate(table[SEX == "F"], outputs=("ill",), exclusive=False, bootstrap=BOOTSTRAP)
    assert group["metrics"] == {name: alone["metrics"][name] for name in ("auc", "sensitivity", "specificity")}
    assert (group["n_images"], group["n_patients"]) == (alone["n_images"], alone["n_patients"])
    assert group["n_positive"]["ill"] / group["n_known"]["ill"] == pytest.approx(alone["prevalence"])


def test_each_image_belongs_to_a_group_or_is_unknown(table):
    found = subgroups_of(table, view=[None] * N_IMAGES)
    assert [found[attribute]["n_unknown"] for attribute in ("sex", "age", "view")] == [80, 0, 240]
    assert found["view"]["groups"] == {}
    assert sum(group["n_images"] for group in found["sex"]["groups"].values()) == 160
    assert list(found["age"]["groups"]) == ["0 to 4", "5 to 17", "18 to 64", "65 and older"]


TEN = [str(number) for number in range(10)]


@pytest.mark.parametrize(
    ("ill", "well", "evaluated"),
    [
        (["0"] * 10, TEN, False),
        (TEN, ["0"] * 10, False),
        (TEN, TEN, True),
        ([None] * 10, [None] * 10, True),
        ([None] * 9 + ["0"], [None] * 9 + ["0"], True),
        (["0"] * 2 + [None] * 8, [None] * 10, False),
    ],
)
def test_a_group_needs_enough_patients_with_and_without_the_class(table, ill, well, evaluated):
    # Ten images with the class, ten without, and five whose label is unknown.
    labels, patients = [1.0] * 10 + [0.0] * 10 + [np.nan] * 5, [*ill, *well, *"abcde"]
    group = subgroups_of(table.head(25).assign(true_ill=labels, patient_id=patients))["view"]["groups"]["PA"]
    assert (bool(group["metrics"]), bool(group["per_class"])) == (evaluated, evaluated)
    assert (group["n_images"], group["n_positive"]["ill"], group["n_known"]["ill"]) == (25, 10, 20)


def test_the_mean_is_over_the_outputs_with_enough_patients(table):
    group = subgroups_of(table, "mass", "nodule", "hernia")["view"]["groups"]["PA"]
    two = evaluate(table, outputs=("mass", "nodule"), exclusive=False, bootstrap=BOOTSTRAP)
    assert {output: metrics["auc"] for output, metrics in group["per_class"].items()} == {
        output: metrics["auc"] for output, metrics in two["per_class"].items()
    }
    assert group["metrics"]["auc"] == two["metrics"]["auc"]
    assert group["n_positive"]["hernia"] == 4


@given(age=st.floats(0, 120) | st.integers(0, 120).map(float), begins=st.sets(st.integers(1, 120)).map(sorted))
def test_an_age_lies_in_its_band(age, begins):
    name = age_bands(pd.Series([age]), begins)[0]
    low, _, high = name.partition(" to ")
    assert int(low.split(" ")[0]) <= age
    assert age < int(high) + 1 if high else name.endswith(" and older")
    assert age_bands(pd.Series([np.nan]), begins).isna().all()
