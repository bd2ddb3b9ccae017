import pytest

from cxr_pipeline.report.words.explanations import where_it_looks


def value(number, low=None):
    return {"value": number, "low": low, "high": None}


def document(randomised=None, **found):
    return {
        "method": "Grad-CAM",
        "layer": "conv5",
        "localisation": {"Effusion": found} if found else {},
        "randomised": randomised,
    }


def test_it_says_how_the_maps_were_made():
    assert where_it_looks(document()) == ["The maps are made by Grad-CAM from the layer conv5."]


@pytest.mark.parametrize(
    ("low", "centred", "verdict"),
    [
        (0.8, 0.3, "it looks better than that"),
        (0.3, 0.3, "not shown to be better"),
        (None, 0.3, "not shown to be better"),
    ],
)
def test_the_hottest_point_is_held_against_the_middle_of_the_image(low, centred, verdict):
    sentence = where_it_looks(document(pointing_game=value(0.9, low), pointing_game_centred=value(centred)))[1]
    assert "For Effusion the hottest point lies in a box that a reader drew in about 90 of 100 images" in sentence
    assert "the middle of the image would in 30" in sentence
    assert verdict in sentence


def test_without_a_centred_blob_there_is_no_verdict_and_without_hits_no_sentence():
    assert where_it_looks(document(pointing_game=value(0.9)))[1].endswith("90 of 100 images.")
    assert len(where_it_looks(document(pointing_game=value(None)))) == 1


@pytest.mark.parametrize(
    ("correlation", "words"),
    [
        (0.1, "The maps change when the weights are shuffled (rank correlation 0.10, mean of 5 shuffles)"),
        (-0.4, "The maps change"),
        (0.49, "The maps change"),
        (0.5, "The maps do not depend on the weights: they explain nothing."),
        (1.0, "they explain nothing"),
    ],
)
def test_maps_that_survive_shuffled_weights_explain_nothing(correlation, words):
    assert (
        words
        in where_it_looks(document({"n_shuffles": 5, "rank_correlation": value(correlation), "pointing_game": None}))[
            -1
        ]
    )


def test_what_shuffled_weights_point_at_is_told():
    sentence = where_it_looks(
        document({"n_shuffles": 5, "rank_correlation": value(0.1), "pointing_game": value(0.12)})
    )[-1]
    assert sentence.endswith("lies in a box in 12 of 100 images.")
