import pytest

from cxr_pipeline.training.listeners import listening, tell


def test_listeners_hear_every_row_while_they_listen() -> None:
    first: list[dict] = []
    second: list[dict] = []
    tell({"epoch": 0})
    with listening(first.append):
        tell({"epoch": 1})
        with listening(second.append):
            tell({"epoch": 2})
        tell({"epoch": 3})
    tell({"epoch": 4})
    assert [row["epoch"] for row in first] == [1, 2, 3]
    assert [row["epoch"] for row in second] == [2]


def test_what_a_listener_raises_comes_through_and_it_hears_no_more() -> None:
    def refuse(row: dict) -> None:
        raise RuntimeError(row["epoch"])

    with pytest.raises(RuntimeError, match="1"), listening(refuse):
        tell({"epoch": 1})
    tell({"epoch": 2})
