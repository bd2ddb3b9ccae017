"""Test images by sex, age band and view."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxr_pipeline.evaluation.evaluate import evaluate
from cxr_pipeline.evaluation.subgroups import age_bands, evaluate_subgroups

BOOTSTRAP = {"replicates": 100, "confidence": 0.9, "seed": 1}
N_IMAGES = 240
SEX = np.array(["F", "M", None], dtype=object)[np.arange(N_IMAGES) % 3]


def scored(*outputs: str) -> pd.DataFrame:
    """Decided scores of 240 images of 120 patients; the last output is of four images only."""
    rng = np.random.default_rng(3)
    table = pd.DataFrame({"source": "nih", "image": [f"{place}.png" for place in range(N_IMAGES)]})
    table["patient_id"] = [str(place // 2) for place in range(N_IMAGES)]
    for place, output in enumerate(outputs):
        rare = len(outputs) > 1 and place == len(outputs) - 1
        true = np.arange(N_IMAGES) < 4 if rare else rng.random(N_IMAGES) < 0.4
        probability = np.clip(0.2 * true + 0.8 * rng.random(N_IMAGES), 0, 1)
        table[f"true_{output}"] = true.astype(float)
        table[f"probability_{output}"], table[f"predicted_{output}"] = probability, probability > 0.5
    return table


def about(**columns: object) -> pd.DataFrame:
    known = {"sex": SEX, "age": np.linspace(0, 100, N_IMAGES), "view": "PA", **columns}
    return pd.DataFrame({"source": "nih", "image": [f"{place}.png" for place in range(N_IMAGES)], **known})


def measure(table: pd.DataFrame, manifest: pd.DataFrame, *outputs: str, min_patients: int = 10) -> dict:
    settings = {"outputs": outputs, "ages": (18, 65), "min_patients": min_patients, "bootstrap": BOOTSTRAP}
    return evaluate_subgroups(table, manifest, **settings)


def test_a_group_is_measured_as_if_its_images_were_all_there_are() -> None:
    table = scored("ill")
    found = measure(table, about().sample(frac=1, random_state=1), "ill")["sex"]["groups"]["F"]
    alone = evaluate(table[SEX == "F"], outputs=("ill",), exclusive=False, bootstrap=BOOTSTRAP)
    assert found["metrics"] == {name: alone["metrics"][name] for name in ("auc", "sensitivity", "specificity")}
    assert (found["n_images"], found["n_patients"]) == (alone["n_images"], alone["n_patients"])
    assert found["n_positive"]["ill"] / found["n_known"]["ill"] == pytest.approx(alone["prevalence"])


def test_patients_are_drawn_whole() -> None:
    table = scored("ill")
    width = {}
    for name, ids in (("two images", table["patient_id"]), ("one image", table["image"])):
        auc = measure(table.assign(patient_id=ids), about(), "ill")["view"]["groups"]["PA"]["metrics"]["auc"]
        width[name] = (auc["low"], auc["high"])
    assert width["two images"] != width["one image"]


def test_every_image_is_in_one_group_or_unknown() -> None:
    found = measure(scored("ill"), about(age=[None] * N_IMAGES), "ill")
    assert {what: found[what]["n_unknown"] for what in ("sex", "age", "view")} == {"sex": 80, "age": 240, "view": 0}
    assert found["age"]["groups"] == {}
    assert sum(group["n_images"] for group in found["sex"]["groups"].values()) == 160


def test_a_group_that_is_too_small_is_counted_and_not_measured() -> None:
    view = np.where(np.arange(N_IMAGES) < 12, "AP", "PA")
    found = measure(scored("ill"), about(view=view), "ill")["view"]["groups"]
    assert (found["AP"]["n_images"], found["AP"]["metrics"], found["AP"]["per_class"]) == (12, {}, {})
    assert found["PA"]["metrics"]["auc"]["value"] is not None


@pytest.mark.parametrize(
    ("ill", "well", "measured"),
    [
        (["0"] * 10, [str(place) for place in range(1, 11)], False),
        ([str(place) for place in range(1, 11)], ["0"] * 10, False),
        ([str(place) for place in range(10)], [str(place) for place in range(10)], True),
        ([None] * 10, [None] * 10, True),
        ([None] * 9 + ["0"], [None] * 9 + ["0"], True),
        (["0"] * 2 + [None] * 8, [None] * 10, False),
    ],
)
def test_a_group_is_measured_where_enough_patients_have_and_lack_a_class(ill, well, measured) -> None:
    table = scored("ill").head(20).assign(true_ill=[1.0] * 10 + [0.0] * 10, patient_id=[*ill, *well])
    group = measure(table, about(), "ill")["view"]["groups"]["PA"]
    assert bool(group["metrics"]) is measured
    assert (group["n_positive"]["ill"], group["n_known"]["ill"]) == (10, 20)


def test_a_group_in_which_all_are_ill_is_not_measured() -> None:
    table = scored("ill")
    well = np.flatnonzero(table["true_ill"] == 0)
    view = np.where(np.isin(np.arange(N_IMAGES), well[9:]), "AP", "PA")
    found = measure(table, about(view=view), "ill")["view"]["groups"]
    assert found["PA"]["n_known"]["ill"] - found["PA"]["n_positive"]["ill"] == 9
    assert found["PA"]["metrics"] == found["AP"]["metrics"] == {}


def test_the_mean_is_over_the_outputs_with_enough_images() -> None:
    table = scored("mass", "nodule", "hernia")
    found = measure(table, about(), "mass", "nodule", "hernia")["view"]["groups"]["PA"]
    two = evaluate(table, outputs=("mass", "nodule"), exclusive=False, bootstrap=BOOTSTRAP)
    assert {output: of_one["auc"] for output, of_one in found["per_class"].items()} == {
        output: two["per_class"][output]["auc"] for output in ("mass", "nodule")
    }
    assert found["metrics"]["auc"] == two["metrics"]["auc"]
    assert found["n_positive"]["hernia"] == 4


def test_a_label_that_is_not_known_counts_for_neither_side() -> None:
    table = scored("ill")
    table.loc[:199, "true_ill"] = np.nan
    group = measure(table, about(), "ill")["view"]["groups"]["PA"]
    assert (group["n_images"], group["n_known"]["ill"]) == (240, 40)


def test_age_bands_come_in_their_order() -> None:
    assert list(measure(scored("ill"), about(), "ill")["age"]["groups"]) == ["0 to 17", "18 to 64", "65 and older"]


@given(age=st.floats(0, 120) | st.integers(0, 120).map(float), begins=st.sets(st.integers(1, 120)).map(sorted))
def test_an_age_is_in_the_band_that_says_so(age: float, begins: list[int]) -> None:
    name = age_bands(pd.Series([age]), begins)[0]
    low, _, high = name.partition(" to ")
    assert int(low.split(" ")[0]) <= age
    assert age < int(high) + 1 if high else name.endswith(" and older")
    assert age_bands(pd.Series([np.nan]), begins).isna().all()


def test_a_birthday_begins_a_band() -> None:
    assert age_bands(pd.Series([17.9, 18.0]), [18]).tolist() == ["0 to 17", "18 and older"]
