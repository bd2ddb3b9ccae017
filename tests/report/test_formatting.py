from functools import partial

import pytest

from cxr_pipeline.report import formatting


def test_a_metric_has_its_interval_or_says_that_there_are_too_few_patients():
    row = {"auc": 0.8, "auc_low": -0.0001, "auc_high": 0.9375}
    assert formatting.measure(formatting.from_columns(row, "auc")) == "0.800 (0.000 to 0.938)"
    assert formatting.measure(formatting.from_columns(row, "auc"), digits=2, sign=True) == "+0.80 (+0.00 to +0.94)"
    few = {"auc": 0.8, "auc_too_few_patients": 3.0}
    assert formatting.measure(formatting.from_columns(few, "auc")) == "0.800 (too few patients: 3)"
    assert formatting.measure(formatting.from_columns({}, "auc")) == ""
    assert formatting.measure({"value": None, "low": 0.1, "high": 0.2}) == "not defined"


@pytest.mark.parametrize(
    ("function", "value", "text"),
    [
        *((formatting.as_text, *pair) for pair in (
            (1200, "1,200"), (0.0, "0.000"), (0.00002, "2e-05"), (-0.0001, "-0.0001"), (True, "yes"), (False, "no"),
            (None, "not defined"), (float("nan"), "not defined"), ("text", "text"), ([1, 0.5], "1, 0.500"),
            ([0.5] * 11, "11 values"))),
        *((formatting.as_yaml, *pair) for pair in (
            (None, "null"), (float("nan"), "null"), (True, "true"), (3, "3"), (224.0, "224"), (1e-5, "1e-05"),
            (0.00025, "0.00025"), ("focal", "focal"), ("010", "010"))),
        *((formatting.join, *pair) for pair in (
            ([], ""), (["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c"))),
        *((formatting.number, *pair) for pair in (
            (float("nan"), "not defined"), (-0.0001, "0.000"), (-0.0006, "-0.001"))),
        (partial(formatting.number, sign=True), -0.0001, "+0.000"),
        (formatting.first_of, list("abc"), "a, b and c"),
        (formatting.first_of, list("abcde"), "a, b, c and 2 others"),
        (formatting.words, "auc", "AUC"),
        (formatting.words, "balanced_accuracy", "balanced accuracy"),
        (formatting.sources_named, ["a"], "the source “a”"),
        (formatting.sources_named, ["a", "b"], "the sources “a” and “b”"),
        (formatting.words, "balanced_accuracy", "balanced accuracy"),
        (formatting.of_100, 0.828, "83"),
        (formatting.percent, 0.95, "95 %"),
        (formatting.p_value, 0.0301, "0.030"),
        (formatting.p_value, 0.0001, "below 0.001"),
        (formatting.markdown, "a\n[b](c) `d` | <e>&*", "a \\[b\\](c) \\`d\\` \\| &lt;e>&amp;\\*"),
    ],
)  # fmt: skip
def test_values_in_words(function, value, text):
    assert function(value) == text
