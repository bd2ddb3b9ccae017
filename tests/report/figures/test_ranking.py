import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_pipeline.evaluation.score_tables import Scores
from cxr_pipeline.report.figures import ranking

CLASSES = ("nofinding", "effusion")
LABELS = ("Mass", "Nodule")


def two_classes(y_true, probability, threshold=0.5):
    y_true, probability = np.array(y_true, dtype=float), np.array(probability, dtype=float)
    scores = Scores(("effusion",), y_true[:, None], probability[:, None], probability[:, None] >= threshold)
    return scores, CLASSES, {"effusion": threshold}


def exclusive(true, probability, called):
    names = ("normal", "Mass", "Nodule")
    y_true = np.array([np.full(3, np.nan) if row is None else np.eye(3)[row] for row in true])
    return Scores(names, y_true, np.array(probability, dtype=float), np.eye(3, dtype=bool)[called]), names, {}


def test_two_classes_put_the_farthest_from_the_threshold_first():
    worst = ranking.two_class_mistakes(*two_classes([1, 0, 1, 0, np.nan], [0.3, 0.9, 0.1, 0.2, 0.99]), limit=9)
    assert worst["position"].tolist() == [1, 2, 0]
    assert worst["caption"].tolist() == [
        "nofinding called effusion, 0.900",
        "effusion called nofinding, 0.100",
        "effusion called nofinding, 0.300",
    ]


def test_a_low_threshold_does_not_hide_the_images_that_were_missed():
    worst = ranking.two_class_mistakes(*two_classes([1, 0], [0.001, 0.5], threshold=0.1), limit=1)
    assert worst["position"].tolist() == [0]


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([0.0, 1.0, np.nan]), st.floats(0, 1)), max_size=30),
    st.floats(0, 1),
    st.integers(0, 9),
)
def test_only_wrong_images_are_ranked_and_as_many_as_there_are(images, threshold, limit):
    scores, classes, thresholds = two_classes([y for y, _ in images], [p for _, p in images], threshold)
    wrong = {place for place, (y, p) in enumerate(images) if not np.isnan(y) and (p >= threshold) != (y == 1)}
    for rank in (ranking.two_class_mistakes, ranking.label_mistakes):
        positions = rank(scores, classes, thresholds, limit=limit)["position"]
        assert set(positions) <= wrong
        assert len(positions) == min(limit, len(wrong))


def test_the_worst_label_of_a_image_is_named_and_unknown_labels_are_passed_over():
    y_true = np.array([[1, 0], [np.nan, 1], [0, 0], [1, 0]], dtype=float)
    probability = np.array([[0.3, 0.9], [0.9, 0.1], [0.1, 0.1], [0.49, 0.1]])
    scores = Scores(LABELS, y_true, probability, probability >= 0.5)
    worst = ranking.label_mistakes(scores, LABELS, {"Mass": 0.5, "Nodule": 0.5}, limit=9)
    assert worst["position"].tolist() == [0, 1, 3]
    assert worst["caption"].tolist() == ["Nodule called wrongly, 0.900", "Nodule missed, 0.100", "Mass missed, 0.490"]


def test_each_label_is_measured_against_its_own_threshold():
    probability = np.array([[0.3, 0.3]])
    scores = Scores(LABELS, np.array([[0.0, 1.0]]), probability, np.array([[True, False]]))
    worst = ranking.label_mistakes(scores, LABELS, {"Mass": 0.29, "Nodule": 0.9}, limit=1)
    assert worst["caption"].tolist() == ["Nodule missed, 0.300"]


def test_exclusive_classes_rank_by_the_lead_over_the_true_class():
    probability = [[0.55, 0.44, 0.01], [0.5, 0.1, 0.4], [0.9, 0.05, 0.05], [0.1, 0.2, 0.7]]
    worst = ranking.exclusive_mistakes(*exclusive([1, 1, 0, None], probability, [0, 0, 0, 2]), limit=9)
    assert worst["position"].tolist() == [1, 0]
    assert worst["caption"].tolist() == ["Mass called normal, 0.500", "Mass called normal, 0.550"]


def test_a_decision_against_the_largest_probability_counts():
    worst = ranking.exclusive_mistakes(*exclusive([0], [[0.5, 0.4, 0.1]], [1]), limit=9)
    assert worst["caption"].tolist() == ["normal called Mass, 0.400"]


def test_no_mistake_gives_no_row():
    worst = ranking.exclusive_mistakes(*exclusive([0], [[0.5, 0.4, 0.1]], [0]), limit=9)
    assert list(worst) == ["position", "caption"]
    assert worst.empty
