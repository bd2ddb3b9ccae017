import itertools
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxr_pipeline.evaluation import bootstrap
from cxr_pipeline.evaluation.evaluate import evaluate
from cxr_pipeline.evaluation.metrics import METRICS
from cxr_pipeline.evaluation.paired_bootstrap import holm, match_images, paired_differences

BOOTSTRAP = {"replicates": 400, "confidence": 0.95, "seed": 3}
ONE = {"outputs": ("mass",), "exclusive": False, "bootstrap": BOOTSTRAP}
NAMES = ("a", "b", "c")


def decided(y_true, probability, *, threshold=0.5, patients=None, predicted=None, outputs=("mass",)):
    """A score table with decisions of labels and probabilities [n, k]."""
    images = len(y_true)
    columns = {"source": "images", "image": [f"{number:04}.png" for number in range(images)], "sha256": "0"}
    table = pd.DataFrame({**columns, "patient_id": pd.array(patients or [None] * images, dtype="string")})
    predicted = probability >= threshold if predicted is None else predicted
    for place, output in enumerate(outputs):
        table[f"true_{output}"] = y_true[:, place]
        table[f"score_{output}"] = table[f"probability_{output}"] = probability[:, place]
        table[f"predicted_{output}"] = predicted[:, place]
    return table.assign(decision="?")


@dataclass
class Pair:
    """Two models that see the same images, each with some noise of its own."""

    n_images: int = 300
    seed: int = 0
    per_patient: int = 1
    skill: tuple[float, float] = (1.5, 1.5)

    def tables(self, **options):
        rng = np.random.default_rng(self.seed)
        y_true = (rng.random((self.n_images, 1)) < 0.4).astype(float)
        common = rng.normal(size=y_true.shape)
        patients = [f"p{number // self.per_patient:04}" for number in range(self.n_images)]
        noise = [common + rng.normal(size=y_true.shape) for _ in self.skill]
        raised = [skill * y_true + each for skill, each in zip(self.skill, noise, strict=True)]
        return [decided(y_true, 1 / (1 + np.exp(0.6 - each)), patients=patients, **options) for each in raised]


def of_classes(n_images, *, seed, outputs=NAMES, unknown=0.0):
    """Two models of several outputs, which decide for the most probable one."""
    rng = np.random.default_rng(seed)
    y_true = np.eye(len(outputs))[rng.integers(len(outputs), size=n_images)]
    tables = []
    hidden = np.random.default_rng(9).random(y_true.shape) < unknown
    patients = [f"p{number // 2:03}" for number in range(n_images)]
    for skill in (1.0, 1.5):
        raised = np.exp(skill * y_true + rng.normal(size=y_true.shape))
        probability = raised / raised.sum(axis=1, keepdims=True)
        predicted = probability == probability.max(axis=1, keepdims=True)
        labels = np.where(hidden, np.nan, y_true)
        tables.append(decided(labels, probability, predicted=predicted, patients=patients, outputs=outputs))
    return tables


def values_of(table, **settings):
    return {name: each["value"] for name, each in evaluate(table, **settings)["metrics"].items()}


def test_a_model_does_not_differ_from_itself():
    mine, _ = Pair().tables()

    found = paired_differences(mine, mine.copy(), **ONE)

    assert list(found) == list(METRICS)
    assert all(each == {"value": 0, "low": 0, "high": 0, "p_value": 1} for each in found.values())


@pytest.mark.parametrize("exclusive", [False, True])
def test_the_difference_is_that_of_the_metrics(exclusive):
    settings = {"outputs": NAMES, "exclusive": exclusive, "bootstrap": BOOTSTRAP}
    mine, other = of_classes(120, seed=1, unknown=0 if exclusive else 0.2)
    expected, baseline = values_of(mine, **settings), values_of(other, **settings)

    found = paired_differences(mine, other, **settings)

    for name in METRICS:
        assert found[name]["value"] == pytest.approx(expected[name] - baseline[name], abs=1e-11), name
        assert found[name]["low"] <= found[name]["value"] <= found[name]["high"], name
    assert found["auc"]["value"] < 0


def test_each_model_is_judged_by_its_own_decisions():
    mine, other = decided(*one_column([0, 0, 1, 1], [0.1, 0.4, 0.6, 0.9]), threshold=0.5), None
    other = mine.assign(predicted_mass=[True, True, True, True])

    found = paired_differences(other, mine, **ONE)

    assert (found["specificity"]["value"], found["sensitivity"]["value"], found["auc"]["value"]) == (-1, 0, 0)


def one_column(*columns):
    return [np.array(column, dtype=float)[:, None] for column in columns]


@pytest.mark.parametrize("exclusive", [False, True])
def test_intervals_and_p_values_are_those_of_a_loop_over_resampled_patients(exclusive):
    bootstrap = {**BOOTSTRAP, "replicates": 99}
    settings = {"outputs": NAMES, "exclusive": exclusive, "bootstrap": bootstrap}
    tables = of_classes(40, seed=5)
    patients = tables[0]["patient_id"].to_numpy()
    ids = np.unique(patients)
    alone = {**settings, "bootstrap": {**BOOTSTRAP, "replicates": 1}}
    rows = []
    for drawn in np.random.default_rng(3).integers(len(ids), size=(99, len(ids))):
        images = np.concatenate([np.flatnonzero(patients == ids[number]) for number in drawn])
        mine, other = (values_of(table.iloc[images], **alone) for table in tables)
        rows.append([mine[name] - other[name] for name in METRICS])
    loop = dict(zip(METRICS, np.round(rows, 12).T, strict=True))

    found = paired_differences(*tables, **settings)

    for name in METRICS[:-1]:
        low, high = np.quantile(loop[name], (0.025, 0.975))
        fewer = min((loop[name] <= 0).sum(), (loop[name] >= 0).sum())
        expected = {"low": low, "high": high, "p_value": min(1, 2 * (fewer + 1) / 100)}
        assert {key: found[name][key] for key in expected} == pytest.approx(expected, abs=1e-9), name


@pytest.mark.parametrize("exclusive", [False, True])
def test_the_order_of_rows_and_the_size_of_chunks_change_nothing(monkeypatch, exclusive):
    settings = {"outputs": NAMES, "exclusive": exclusive, "bootstrap": BOOTSTRAP}
    mine, other = of_classes(80, seed=2)
    mine.loc[:20, "patient_id"] = other.loc[:20, "patient_id"] = None
    expected = paired_differences(mine, other, **settings)
    monkeypatch.setattr(bootstrap, "CHUNK", 80 * 7)

    found = paired_differences(mine.sample(frac=1, random_state=1), other.sample(frac=1, random_state=2), **settings)

    for name in METRICS:
        assert found[name] == pytest.approx(expected[name], abs=1e-11), name


def test_the_other_way_round_the_sign_turns():
    mine, other = Pair(skill=(1.5, 1.2)).tables()

    there, back = paired_differences(mine, other, **ONE), paired_differences(other, mine, **ONE)

    for name in METRICS:
        turned = {"value": -back[name]["value"], "low": -back[name]["high"], "high": -back[name]["low"]}
        assert there[name] == pytest.approx({**turned, "p_value": back[name]["p_value"]}, abs=1e-11), name


def delong_standard_error(mine, other):
    positive = mine["true_mass"].to_numpy() == 1
    placements = []
    for table in (mine, other):
        scores = table["score_mass"].to_numpy()
        wins = (scores[positive][:, None] > scores[~positive]).astype(float)
        placements.append((wins.mean(1), wins.mean(0)))
    gaps = [placements[0][side] - placements[1][side] for side in (0, 1)]
    return np.sqrt(sum(gap.var(ddof=1) / len(gap) for gap in gaps))


def test_the_interval_of_the_auc_difference_is_as_wide_as_delong_says():
    mine, other = Pair(n_images=2000).tables()

    found = paired_differences(mine, other, **{**ONE, "bootstrap": {**BOOTSTRAP, "replicates": 1500}})["auc"]

    expected = 2 * 1.96 * delong_standard_error(mine, other)
    assert found["high"] - found["low"] == pytest.approx(expected, rel=0.1)


def test_images_hard_for_both_count_for_neither():
    mine, other = Pair(n_images=400).tables()
    ends = [evaluate(table, **ONE)["metrics"]["auc"] for table in (mine, other)]

    found = paired_differences(mine, other, **ONE)["auc"]

    apart = np.hypot(*(each["high"] - each["low"] for each in ends))
    assert found["high"] - found["low"] < 0.9 * apart


def test_copies_of_a_image_add_nothing_when_patients_are_drawn():
    mine, other = Pair(skill=(1.5, 1.0)).tables()
    copied = [
        pd.concat([table.assign(image=table["image"] + str(copy)) for copy in range(4)]) for table in (mine, other)
    ]
    by_image = [table.assign(patient_id=pd.NA) for table in copied]
    width = lambda found: found["auc"]["high"] - found["auc"]["low"]  # noqa: E731

    single, patients, images = (width(paired_differences(*pair, **ONE)) for pair in ((mine, other), copied, by_image))

    assert patients == pytest.approx(single, rel=0.15)
    assert images == pytest.approx(single / 2, rel=0.15)


def test_models_of_equal_skill_are_told_apart_about_as_often_as_the_level_says():
    bootstrap = {"replicates": 199, "confidence": 0.95, "seed": 0}
    pairs = (Pair(n_images=160, seed=seed, per_patient=2).tables() for seed in range(150))

    found = [paired_differences(*pair, **{**ONE, "bootstrap": bootstrap})["auc"]["p_value"] for pair in pairs]

    assert 0.2 <= np.mean(np.array(found) < 0.3) <= 0.42
    assert np.mean(np.array(found) < 0.05) <= 0.1


@pytest.mark.parametrize("seed", range(6))
def test_the_p_value_is_small_where_the_interval_leaves_zero_out(seed):
    mine, other = Pair(seed=seed, skill=(1.5, 1.1), n_images=250).tables()

    for name, each in paired_differences(mine, other, **ONE).items():
        if not 0.04 < each["p_value"] < 0.06:
            assert (each["p_value"] < 0.05) == (each["low"] > 0 or each["high"] < 0), name


def test_no_p_value_is_zero():
    mine, other = Pair(skill=(6, 0)).tables()

    found = paired_differences(mine, other, **ONE)["auc"]

    assert found["p_value"] == pytest.approx(2 / 401)
    assert found["low"] > 0.3


def test_equal_ranks_are_equal_though_their_scores_are_not():
    mine, _ = Pair().tables()
    squeezed = mine.assign(score_mass=mine["score_mass"] / 3, probability_mass=mine["probability_mass"] / 3)

    found = paired_differences(squeezed, mine, **ONE)

    for name in ("auc", "average_precision"):
        assert found[name] == {"value": 0, "low": 0, "high": 0, "p_value": 1}
    assert found["brier"]["value"] != 0


def test_the_interval_of_the_calibration_error_holds_its_value():
    rng = np.random.default_rng(0)
    probability = rng.random((300, 1))
    y_true = (rng.random((300, 1)) < probability).astype(float)
    honest, proud = decided(y_true, probability), decided(y_true, np.clip(2 * probability - 0.5, 0, 1))

    found = paired_differences(honest, proud, **ONE)["ece"]

    assert found["low"] < found["value"] < found["high"] < 0
    narrow = paired_differences(honest, proud, **{**ONE, "bootstrap": {**BOOTSTRAP, "confidence": 0.01}})["ece"]
    assert narrow["low"] <= narrow["value"] <= narrow["high"]


def test_metrics_undefined_for_one_have_no_difference():
    mine, other = Pair().tables()

    found = paired_differences(mine.assign(predicted_mass=False), other, **ONE)

    assert found["precision"] == {"value": None, "low": None, "high": None, "p_value": None}
    assert found["auc"]["p_value"] is not None


def test_one_patient_has_no_interval():
    mine, other = Pair(n_images=50, per_patient=50).tables()

    found = paired_differences(mine, other, **ONE)["auc"]

    assert found["value"] is not None
    assert (found["low"], found["high"], found["p_value"]) == (None, None, None)


def test_images_in_one_table_only_are_left_out_and_counted():
    mine, other = Pair().tables()
    few, many = mine.iloc[:200], other.iloc[20:]

    images = match_images(few, many, ("mass",))

    assert images.n_left_out == 20 + 100
    assert images.table["image"].tolist() == images.baseline["image"].tolist() == mine["image"].iloc[20:200].tolist()
    expected = paired_differences(mine.iloc[20:200], other.iloc[20:200], **ONE)
    assert paired_differences(few, many, **ONE) == expected


def test_images_of_one_name_from_two_sources_are_two():
    mine, other = Pair(n_images=40).tables()
    mine.loc[20:, "image"] = other.loc[20:, "image"] = mine.loc[:19, "image"].to_numpy()
    mine.loc[20:, "source"] = other.loc[20:, "source"] = "more"

    images = match_images(mine, other, ("mass",))

    assert (len(images.table), images.n_left_out) == (40, 0)


def test_images_of_which_nothing_is_known_leave_with_their_patients():
    mine, other = Pair(n_images=90, per_patient=3).tables()
    expected = paired_differences(mine.iloc[:60], other.iloc[:60], **ONE)
    mine.loc[60:, "true_mass"] = other.loc[60:, "true_mass"] = np.nan

    assert paired_differences(mine, other, **ONE) == expected


def test_nothing_in_common_is_refused():
    mine, other = Pair(n_images=20).tables()

    with pytest.raises(
        ValueError, match="no test image in common: one was tested on 20 images, the other on 20 other images"
    ):
        paired_differences(mine, other.assign(source="elsewhere"), **ONE)


@pytest.mark.parametrize(("column", "value"), [("true_mass", np.nan), ("true_mass", 2.0), ("patient_id", "p9999")])
def test_images_that_are_not_the_same_are_refused(column, value):
    mine, other = Pair(n_images=20).tables()
    other.loc[[3, 7], column] = value

    with pytest.raises(ValueError, match=f"2 of 20 common test images differ in `{column}`"):
        paired_differences(mine, other, **ONE)


def test_unknown_patients_on_one_side_are_refused_and_on_both_are_images():
    mine, other = Pair(n_images=20).tables()

    with pytest.raises(ValueError, match="20 of 20 common test images differ in `patient_id`"):
        paired_differences(mine, other.assign(patient_id=pd.NA), **ONE)
    unknown = [table.assign(patient_id=None) for table in (mine, other)]
    assert paired_differences(*unknown, **ONE) == paired_differences(mine, other, **ONE)


def test_a_image_twice_is_refused():
    mine, other = Pair(n_images=20).tables()

    with pytest.raises(ValueError, match="twice"):
        paired_differences(mine, pd.concat([other, other.iloc[:1]]), **ONE)


P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=8)


@given(P_VALUES)
def test_holm_is_the_closed_test_of_bonferroni(p_values):
    places = range(len(p_values))
    subsets = [chosen for size in places for chosen in itertools.combinations(places, size + 1)]
    bonferroni = {chosen: min(1, len(chosen) * min(p_values[place] for place in chosen)) for chosen in subsets}
    expected = [max(value for chosen, value in bonferroni.items() if place in chosen) for place in places]

    assert holm(p_values) == pytest.approx(expected)


@given(P_VALUES, st.randoms(use_true_random=False))
def test_holm_does_not_depend_on_the_order_nor_on_what_was_not_tested(p_values, random):
    adjusted = dict(zip(p_values, holm(p_values), strict=True))
    shuffled = [*p_values, np.nan, np.nan]
    random.shuffle(shuffled)

    found = holm(shuffled)

    for before, after in zip(shuffled, found, strict=True):
        assert np.isnan(after) if np.isnan(before) else after == adjusted[before]


@given(P_VALUES)
def test_holm_keeps_the_order_and_lies_between_the_p_value_and_one(p_values):
    adjusted = holm(p_values)

    assert all(before <= after <= 1 for before, after in zip(p_values, adjusted, strict=True))
    smallest = int(np.argmin(p_values))
    assert adjusted[smallest] == min(1, p_values[smallest] * len(p_values))
    order = np.argsort(p_values, kind="stable")
    assert (np.diff(np.array(adjusted)[order]) >= 0).all()


def test_holm_of_a_known_example():
    assert holm([0.04, 0.01, float("nan"), 0.03]) == pytest.approx([0.06, 0.03, float("nan"), 0.06], nan_ok=True)
    assert holm([]) == []
    assert np.isnan(holm([float("nan")])).all()


@pytest.mark.parametrize("wrong", [-0.1, 1.1])
def test_what_is_no_p_value_is_refused(wrong):
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        holm([0.5, wrong])
