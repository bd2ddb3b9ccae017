import pytest

from cxr_pipeline.report.words import text


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (1200, "1,200"), (0.88949, "0.889"), (0.0, "0.000"), (0.00002, "2e-05"), (True, "yes"), (False, "no"),
        (None, "not defined"), (float("nan"), "not defined"), ("as it is", "as it is"), ([1, 0.5], "1, 0.500"),
        ([0.5] * 11, "11 values"),
    ],
)  # fmt: skip
def test_as_text(value, words):
    assert text.as_text(value) == words


@pytest.mark.parametrize(
    ("names", "words"), [([], ""), (["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")]
)
def test_listed(names, words):
    assert text.listed(names) == words


@pytest.mark.parametrize(
    ("measures", "value"),
    [
        ({"auc": {"value": 0.5}}, 0.5),
        ({"auc": {"value": None}}, None),
        ({"auc": {"value": float("nan")}}, None),
        ({"auc": None}, None),
        ({}, None),
    ],
)
def test_value_of(measures, value):
    assert text.value_of(measures, "auc") == value


def test_spelled_and_of_100():
    assert text.spelled("fitted_on.n_images") == "fitted on, n images"
    assert text.of_100(0.828) == "83"
