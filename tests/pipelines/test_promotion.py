from typing import Any

import pandas as pd
import pytest

from cxr_pipeline import config
from cxr_pipeline.pipelines.promotion import create_pipeline, nodes
from cxr_pipeline.registry import aliases, decisions

MODEL = "cxr-chest-demo"
TASK = config.Task(name="chest", title="Chest", kind="binary", classes={"well": ("well",), "ill": ("ill",)})


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is done to the versions that MLflow has; version 3 is the champion."""
    found: list[Any] = []
    monkeypatch.setattr(aliases, "aliases_of", lambda model: {"champion": 3})
    monkeypatch.setattr(aliases, "promote", lambda *args, **kw: found.append(("promote", *args, kw)) or {})
    monkeypatch.setattr(aliases, "keep_as_challenger", lambda *args: found.append(("keep", *args)) or {})
    monkeypatch.setattr(decisions, "note_decision", lambda *args, **kw: found.append(("note", *args, kw)))
    return found


def test_where_nothing_is_new_every_node_passes_that_on(calls) -> None:
    news = {"train": False, "model": MODEL, "champion": 3}
    assert nodes.score_champion({}, news, pd.DataFrame(), TASK, None, None, None).empty
    files, promotion = nodes.decide_promotion({}, pd.DataFrame(), news, TASK, None, None)
    assert files == {}
    assert nodes.put_in_use(promotion)["champion"] == 3
    assert calls == []


@pytest.mark.parametrize("champion", [None, {"version": 3, "uri": f"models:/{MODEL}/3"}])
@pytest.mark.parametrize("promoted", [True, False])
def test_a_version_counts_as_decided_when_its_alias_was_moved(calls, promoted: bool, champion: Any) -> None:
    promotion = {"model": MODEL, "challenger": {"version": 4}, "champion": champion, "promoted": promoted}
    nodes.put_in_use({**promotion, "reasons": ["So."], "trained_by": "7"})
    moved, noted = calls
    over = {"over": champion and 3}
    assert moved == (("promote", MODEL, 4, over) if promoted else ("keep", MODEL, 4))
    assert noted == ("note", MODEL, 4, {"promoted": promoted, "reasons": ["So."], "trained_by": "7"})


def test_the_record_is_written_before_the_aliases_are_moved() -> None:
    order = [node.short_name for node in create_pipeline().nodes]
    assert order.index("decide_promotion") < order.index("put_in_use")
    assert order.index("score_champion") < order.index("decide_promotion")
