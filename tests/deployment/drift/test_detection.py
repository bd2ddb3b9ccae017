import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_pipeline.deployment.drift.detection import FAMILIES, DriftSettings, Limits, detect_drift
from cxr_pipeline.deployment.drift.profile import reference_profile
from cxr_pipeline.evaluation.paired_bootstrap import holm

LIMITS = {
    "pixels": Limits(0.2, 0.9),
    "features": Limits(0.65, 0.9),
    "scores": Limits(0.1, 0.5),
    "prevalence": Limits(0.2, 0.8),
    "calibration": Limits(0.05, 0.25),
}
SETTINGS = DriftSettings(alpha=0.01, min_images=30, limits=LIMITS, seed=0)


@pytest.fixture
def profile(made_up):
    return reference_profile(made_up(300, 0), made_up(150, 1), outputs=("ill",), seed=0)


def verdicts(report) -> dict[str, str]:
    return {family.name: family.verdict for family in report.families}


def family(report, name):
    return next(each for each in report.families if each.name == name)


def test_images_of_the_same_kind_do_not_drift(profile, made_up) -> None:
    report = detect_drift(profile, made_up(200, 2), SETTINGS)
    assert report.verdict == "none"
    assert verdicts(report) == dict.fromkeys(FAMILIES, "none")
    assert report.sentence == "No drift was found in pixels, features, scores, prevalence, calibration."
    assert [len(each.findings) for each in report.families] == [11, 1, 1, 1, 2]


def test_each_family_sees_its_own_drift_alone(profile, made_up) -> None:
    new = made_up(200, 2)
    rng = np.random.default_rng(0)
    pixels = new.statistics.copy()
    pixels[:, 6] += 8
    for changed, found in (
        ({"statistics": pixels}, {"pixels": "warn"}),
        ({"features": new.features + np.float32(1.2)}, {"features": "refuse"}),
    ):
        report = detect_drift(profile, replace(new, **changed), SETTINGS)
        assert verdicts(report) == {**dict.fromkeys(FAMILIES, "none"), **found}
    flipped = detect_drift(profile, replace(new, y_true=1 - new.y_true), SETTINGS)
    assert verdicts(flipped) == {**dict.fromkeys(FAMILIES, "none"), "calibration": "refuse"}
    higher = rng.beta(3, 1, (200, 1))
    shifted = replace(new, probability=higher, y_true=(rng.random((200, 1)) < higher).astype(float))
    found = verdicts(detect_drift(profile, shifted, SETTINGS))
    assert (found["scores"], found["prevalence"], found["calibration"]) == ("refuse", "warn", "none")


def test_a_finding_needs_both_significance_and_size(profile, made_up) -> None:
    large, small = made_up(5000, 2), made_up(40, 3)
    slightly = replace(large, statistics=large.statistics + np.float32(1.5))
    wide = reference_profile(made_up(5000, 4), made_up(150, 1), outputs=("ill",), seed=0)
    found = family(detect_drift(wide, slightly, SETTINGS), "pixels")
    assert max(each.p_holm for each in found.findings) < 1e-4
    assert found.verdict == "none"
    lenient = {**LIMITS, "features": Limits(0.3, None)}
    by_chance = family(detect_drift(profile, small, replace(SETTINGS, limits=lenient)), "features")
    assert by_chance.findings[0].comparison.effect >= 0.3
    assert by_chance.verdict == "none"


def test_limits_are_reached_where_they_are_met(profile, made_up) -> None:
    new = replace(made_up(200, 2), features=made_up(200, 2).features + np.float32(1.2))
    effect = family(detect_drift(profile, new, SETTINGS), "features").findings[0].comparison.effect
    for limits, expected in (
        (Limits(effect, None), "warn"),
        (Limits(effect, effect), "refuse"),
        (Limits(0.5, effect + 1e-9), "warn"),
        (Limits(effect + 1e-9, None), "none"),
    ):
        report = detect_drift(profile, new, replace(SETTINGS, limits={**LIMITS, "features": limits}))
        assert family(report, "features").verdict == report.verdict == expected


def test_all_tests_of_all_families_are_corrected_together(profile, made_up) -> None:
    report = detect_drift(profile, made_up(200, 2), SETTINGS)
    findings = [finding for each in report.families for finding in each.findings]
    assert [finding.p_holm for finding in findings] == holm([finding.comparison.p_value for finding in findings])


def test_few_images_are_too_few_to_tell(profile, made_up) -> None:
    strange = replace(made_up(29, 2), statistics=made_up(29, 2).statistics + np.float32(500))
    report = detect_drift(profile, strange, SETTINGS)
    assert report.verdict == "unknown"
    assert verdicts(report) == dict.fromkeys(FAMILIES, "unknown")
    assert "cannot be told from 29 new images" in report.sentence
    assert family(report, "pixels").notes == (
        "pixels: too few to tell, 300 reference images and 29 new ones; 30 of each, of as many patients, are needed.",
    )
    assert detect_drift(profile, made_up(30, 2), SETTINGS).verdict == "none"


def test_without_a_image_that_can_be_looked_at_nothing_can_be_told(profile, made_up) -> None:
    report = detect_drift(profile, made_up(0, 2), SETTINGS)
    assert verdicts(report) == dict.fromkeys(FAMILIES, "unknown")
    assert (report.verdict, report.n_new) == ("unknown", 0)
    assert report.sentence == "Whether there is drift cannot be told: no image could be looked at."
    json.dumps(report.to_dict(), allow_nan=False)
    bare = reference_profile(made_up(100, 0), made_up(0, 1), outputs=("ill",), seed=0)
    assert verdicts(detect_drift(bare, made_up(100, 2), SETTINGS))["features"] == "unknown"


def test_one_source_may_grow_alone(made_up, both) -> None:
    """Sources of other machines, with other shares of ill patients; new images of the smaller one."""

    def of_source(n: int, seed: int, source: str):
        rng = np.random.default_rng(seed)
        probability = rng.beta(*((5, 2) if source == "a" else (2, 5)), (n, 1))
        images = made_up(n, seed, source=source)
        moved = images.statistics + np.float32(0 if source == "a" else 40)
        true = (rng.random((n, 1)) < probability).astype(float)
        return replace(images, statistics=moved, probability=probability, y_true=true)

    sides = [both(of_source(3 * n, seed, "a"), of_source(n, seed + 1, "b")) for n, seed in ((100, 0), (60, 2))]
    profile = reference_profile(*sides, outputs=("ill",), seed=0)
    grown = of_source(80, 5, "b")
    report = detect_drift(profile, grown, SETTINGS)
    assert verdicts(report) == dict.fromkeys(FAMILIES, "none"), report.sentence
    assert family(report, "pixels").findings[0].comparison.n_reference == 100
    unnamed = detect_drift(profile, replace(grown, source=np.full(80, "")), SETTINGS)
    assert (unnamed.verdict, verdicts(unnamed)["prevalence"]) == ("refuse", "warn")
    assert family(unnamed, "pixels").findings[0].comparison.n_reference == 400
    strange = replace(grown, statistics=grown.statistics - np.float32(40))
    assert verdicts(detect_drift(profile, strange, SETTINGS))["pixels"] == "refuse"


def test_a_small_reference_leaves_the_other_families_be(made_up) -> None:
    profile = reference_profile(made_up(100, 0), made_up(20, 1), outputs=("ill",), seed=0)
    found = verdicts(detect_drift(profile, made_up(100, 2), SETTINGS))
    unknown = dict.fromkeys(("features", "scores", "calibration"), "unknown")
    assert found == {"pixels": "none", "prevalence": "none", **unknown}
    few = reference_profile(made_up(20, 0), made_up(100, 1), outputs=("ill",), seed=0)
    found = verdicts(detect_drift(few, made_up(100, 2), SETTINGS))
    assert (found["pixels"], found["prevalence"], found["scores"]) == ("unknown", "unknown", "none")


def test_a_rare_class_is_too_few_for_calibration(profile, made_up) -> None:
    new = made_up(200, 2)
    new.y_true[:] = 0
    new.y_true[:9] = 1
    found = family(detect_drift(profile, new, SETTINGS), "calibration")
    assert found.verdict == "unknown"
    assert "9 images of the rarer class" in found.notes[0]
    new.y_true[:10] = 1
    assert family(detect_drift(profile, new, SETTINGS), "calibration").verdict == "refuse"


def test_without_labels_nothing_is_said_of_them(profile, made_up) -> None:
    new = made_up(200, 2)
    report = detect_drift(profile, replace(new, y_true=np.full_like(new.y_true, np.nan)), SETTINGS)
    for name in ("prevalence", "calibration"):
        assert family(report, name).verdict == "unknown"
        assert family(report, name).notes == ("The new images have no labels.",)
    assert report.verdict == "none"
    assert report.sentence == "No drift was found in pixels, features, scores."


def test_unknown_labels_are_left_out_one_by_one(made_up) -> None:
    profile = reference_profile(made_up(300, 0, k=2), made_up(150, 1, k=2), outputs=("a", "b"), seed=0)
    new = made_up(200, 2, k=2)
    new.y_true[25:, 0] = np.nan
    new.y_true[150:, 1] = np.nan
    report = detect_drift(profile, new, SETTINGS)
    assert [found.comparison.name for found in family(report, "prevalence").findings] == ["b"]
    assert family(report, "prevalence").findings[0].comparison.n_new == 150
    assert {found.comparison.name.split(",")[0] for found in family(report, "calibration").findings} == {"b"}
    assert "a: too few to tell, 300 reference images and 25 new ones" in family(report, "prevalence").notes[0]


def test_values_that_are_not_finite_are_left_out_and_counted(profile, made_up) -> None:
    new = made_up(100, 2)
    new.statistics[:5, 2] = np.nan
    new.features[:71, 1] = np.inf
    report = detect_drift(profile, new, SETTINGS)
    assert report.verdict == "none"
    assert family(report, "pixels").findings[2].comparison.n_new == 95
    assert family(report, "pixels").notes == ("shadows: 5 new images without a finite value are left out.",)
    assert "71 new images without a finite value" in family(report, "features").notes[0]
    assert family(report, "features").verdict == "unknown"
    json.dumps(report.to_dict(), allow_nan=False)


def test_constant_values_are_compared(made_up) -> None:
    flat, other = made_up(100, 0), made_up(100, 2)
    for each in (flat, other):
        each.statistics[:] = 7
        each.features[:] = 1
        each.probability[:] = 0.5
    profile = reference_profile(flat, flat, outputs=("ill",), seed=0)
    report = detect_drift(profile, other, SETTINGS)
    assert report.verdict == "none"
    json.dumps(report.to_dict(), allow_nan=False)


def test_the_report_is_json_and_equal_for_equal_images(profile, made_up) -> None:
    first, second = (detect_drift(profile, made_up(150, 2), SETTINGS).to_dict() for _ in range(2))
    assert json.dumps(first, allow_nan=False) == json.dumps(second, allow_nan=False)
    assert json.loads(json.dumps(first)) == first
    assert first["n_new"] == 150
    assert first["limits"]["prevalence"] == {"warn": 0.2, "refuse": 0.8}
    test = first["families"][0]["tests"][0]
    assert test.keys() >= {"name", "test", "effect", "effect_name", "p_value", "p_holm", "verdict", "n_new"}


def test_the_sentence_names_the_worst_of_each_family(profile, made_up) -> None:
    new = made_up(200, 2)
    new.statistics[:, 0] += 12
    new.statistics[:, 5] += 60
    report = detect_drift(profile, new, SETTINGS)
    assert report.sentence == "Drift in pixels (sharpness, KS distance 1.00)."
    assert report.verdict == "refuse"


def test_the_order_of_images_does_not_matter_but_for_the_halves(profile, made_up, some) -> None:
    new = made_up(150, 2)
    turned = some(new, np.arange(150)[::-1])
    one, other = (detect_drift(profile, images, SETTINGS).to_dict()["families"] for images in (new, turned))
    for before, after in zip(one, other, strict=True):
        if before["name"] != "features":
            assert [t["p_value"] for t in before["tests"]] == pytest.approx([t["p_value"] for t in after["tests"]])


@given(st.floats(0, 60), st.integers(0, 20))
@settings(max_examples=15)
def test_more_of_the_same_drift_is_never_less_severe(shift, seed) -> None:
    rng = np.random.default_rng(seed)
    severity = ["unknown", "none", "warn", "refuse"]

    def found(by: float) -> int:
        return severity.index(verdicts(detect_drift(PROFILE, moved(NEW, by), SETTINGS))["pixels"])

    assert found(shift) <= found(shift + float(rng.uniform(0, 40)))


def moved(images, by: float):
    return replace(images, statistics=images.statistics + np.float32(by))


def of_noise(n: int, seed: int):
    from cxr_pipeline.deployment.drift.image_features import Observed

    rng = np.random.default_rng(seed)
    pixels = rng.normal(100, 10, (n, 11)).astype(np.float32)
    return Observed(pixels, pixels[:, :2], np.full((n, 1), 0.5), np.full((n, 1), np.nan), np.full(n, ""))


PROFILE = reference_profile(of_noise(100, 0), of_noise(40, 1), outputs=("ill",), seed=0)
NEW = of_noise(60, 2)


def test_settings_come_from_the_parameters() -> None:
    limits = {name: {"warn": 0.1, "refuse": None} for name in FAMILIES}
    found = DriftSettings.from_dict({"alpha": 0.02, "min_images": 12, "limits": limits, "seed": 4, "folder": None})
    assert found == DriftSettings(0.02, 12, dict.fromkeys(FAMILIES, Limits(0.1, None)), 4)


def test_images_of_another_model_are_refused(profile, made_up) -> None:
    with pytest.raises(ValueError, match=r"Expected 1 outputs\. Received: 3"):
        detect_drift(profile, made_up(50, 0, k=3), SETTINGS)
