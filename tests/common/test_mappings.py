import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxr_pipeline.common.mappings import flatten, hide_passwords, lay_over, nest

blocks = st.recursive(
    st.dictionaries(st.sampled_from("abc"), st.integers(), max_size=3),
    lambda inner: st.dictionaries(st.sampled_from("abc"), st.integers() | inner, max_size=3),
)


@given(below=blocks, above=blocks)
def test_laying_over_keeps_every_value_of_the_upper_block(below, above):
    before = repr((below, above))
    merged = lay_over(below, above)
    assert lay_over(merged, above) == merged
    assert set(merged) == set(below) | set(above)
    assert flatten(above).items() <= flatten(merged).items()
    assert repr((below, above)) == before


@given(blocks)
def test_nesting_undoes_flattening(block):
    leaves = flatten(block)
    assert flatten(nest(leaves)) == leaves


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("postgresql+psycopg://user:s3cret@host/studies", "postgresql+psycopg://user:***@host/studies"),
        ("http://user:s3@cret@host/a@b", "http://user:***@host/a@b"),
        ("postgresql:/user:s3cret@host/studies", "postgresql:/user:***@host/studies"),
        ("postgresql://user:s3/cret@host/studies", "postgresql://user:***@host/studies"),
        ("http://:s3cret@host:5000", "http://:***@host:5000"),
        ("see https://a:b@c and ftp://d:e@f", "see https://a:***@c and ftp://d:***@f"),
        ("http://host:5000/a@b", "http://host:5000/a@b"),
        ("/data/images:new@home", "/data/images:new@home"),
        (3, 3),
    ],
)
def test_passwords_in_urls_are_hidden(value, expected):
    assert hide_passwords({"a": [value, {"b": (value,)}]}) == {"a": [expected, {"b": (expected,)}]}
