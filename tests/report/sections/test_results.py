from dataclasses import replace

import pytest

from cxr_pipeline.report.kinds import kind_of
from cxr_pipeline.report.sections import results

UNDEFINED = (None, None, None)
NAMES = ("normal", "Mass", "Nodule")
BINARY, MULTILABEL = (kind_of({"kind": kind, "classes": NAMES[1:]}) for kind in ("binary", "multilabel"))


def test_uncertainty_has_the_intervals_and_how_they_were_computed(metrics_of):
    by_patient = results.uncertainty(BINARY, metrics_of())
    assert by_patient.startswith("With 95 % confidence intervals: AUC 0.889 (0.851 to 0.924), sensitivity 0.828 (0.750")
    assert "similarity of images of the same patient" in by_patient
    assert "the patients are unknown" in results.uncertainty(BINARY, metrics_of("image"))
    few = metrics_of(auc=(0.9, None, None), sensitivity=UNDEFINED)
    few["metrics"]["auc"]["too_few_patients"] = 3
    assert "intervals: AUC 0.900 (too few patients: 3) and specificity" in results.uncertainty(BINARY, few)
    assert "macro AUC 0.889 (0.851 to 0.924)" in results.uncertainty(MULTILABEL, metrics_of())
    nothing = metrics_of(auc=UNDEFINED, sensitivity=UNDEFINED, specificity=(0.5, None, None))
    assert results.uncertainty(BINARY, nothing) == "No interval could be computed from these test images."


def heat_maps(content, randomised=None, **localised):
    """Return the sentences on heat maps, without their table and figures."""
    document = {"method": "Grad-CAM", "layer": "conv5", "localisation": localised, "randomised": randomised or {}}
    return results.heat_maps(replace(content, explanations=document)).blocks[:-2]


def test_heat_maps_are_compared_with_the_centre_of_the_image(content, measured):
    lows = {"Mass": 0.8, "Nodule": 0.31, "Effusion": 0.3, "Hernia": None}
    classes = {
        name: measured(pointing_game=(0.9, low, 1), pointing_game_centred=(0.3, 0, 1)) for name, low in lows.items()
    }
    first, second, _ = heat_maps(content, **classes, Rare=measured(pointing_game=UNDEFINED))
    assert first == "Heat maps were computed with Grad-CAM at the layer “conv5”."
    assert second == (
        "For Mass and Nodule, the maximum of the heat map is inside an annotated box significantly more often than the "
        "centre of the image. For Effusion and Hernia, the maximum of the heat map is not inside an annotated box "
        "significantly more often than the centre of the image."
    )
    assert heat_maps(content, Rare=measured(pointing_game=(0.9, 0.8, 1)))[1] == ""


@pytest.mark.parametrize(("correlation", "independent"), [(-0.4, False), (0.49, False), (0.5, True)])
def test_heat_maps_that_do_not_depend_on_the_weights_explain_nothing(content, correlation, independent):
    randomised = {"n_shuffles": 5, "rank_correlation": {"value": correlation}, "pointing_game": {"value": 0.12}}
    sentence = heat_maps(content, randomised)[-1]
    assert f"(rank correlation {correlation:.2f}, mean of 5 shuffles)" in sentence
    assert ("do not explain the model" in sentence) == independent
    assert ("inside a box in 12 of 100 images" in sentence) != independent
