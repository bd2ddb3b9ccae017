from typing import Any

import pandas as pd
import pytest

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.framework import config
from cxr_pipeline.pipelines.promotion import create_pipeline, nodes
from cxr_pipeline.tracking import aliases, promotion_records, runs

MODEL = "cxr-chest-demo"
TASK = config.Task(name="chest", title="Chest", kind="binary", classes={"well": ("well",), "ill": ("ill",)})


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is done to the versions that MLflow has; version 3 is the champion."""
    found: list[Any] = []
    monkeypatch.setattr(aliases, "aliases_of", lambda model: {"champion": 3})
    monkeypatch.setattr(aliases, "promote", lambda *args, **kw: found.append(("promote", *args, kw)) or {})
    monkeypatch.setattr(aliases, "keep_as_challenger", lambda *args: found.append(("keep", *args)) or {})
    for name in ("note_reasons", "note_decision", "note_drift"):
        monkeypatch.setattr(promotion_records, name, lambda *args, name=name, **kw: found.append((name, *args, kw)))
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
    why, moved, noted = calls
    assert why == ("note_reasons", MODEL, 4, ["So."], {"trained_by": "7"})
    over = {"over": champion and 3}
    assert moved == (("promote", MODEL, 4, over) if promoted else ("keep", MODEL, 4))
    assert noted == ("note_decision", MODEL, 4, {"promoted": promoted})


def test_a_stop_leaves_a_record_moves_no_alias_and_then_ends_the_run(calls, monkeypatch) -> None:
    tags: dict[str, str] = {}
    logged: dict[str, str] = {}
    monkeypatch.setattr(runs, "set_tags", tags.update)
    monkeypatch.setattr(promotion_records, "log_texts", lambda texts, folder: logged.update(texts))
    news = {
        **{"task": "chest", "model": MODEL, "phantom": True, "champion": 3, "train": False, "why": "9 new images."},
        **{"stopped": "Too many labels.", "news": {"new": 9}, "drift": None, "digest": "7"},
    }
    files, promotion = nodes.decide_promotion({}, pd.DataFrame(), news, TASK, None, None)
    assert sorted(files) == sorted(logged)
    assert len(files) == 2
    assert nodes.put_in_use(promotion) == {"champion": 3}
    assert calls == []
    assert tags == {"decision": "stopped", "decision_reasons": "Too many labels."}
    with pytest.raises(UserError, match=r"Too many labels\. \(The record is decisions/.*Z\.md,") as raised:
        nodes.end_if_stopped(promotion, {})
    assert any(name in str(raised.value) for name in files)


@pytest.mark.parametrize("promotion", [{"model": MODEL}, {"model": MODEL, "decision": "not promoted"}])
def test_what_is_no_stop_ends_well(promotion: dict[str, Any]) -> None:
    nodes.end_if_stopped(promotion, {})


def test_the_verdict_on_new_images_is_noted_before_an_alias_is_moved(calls) -> None:
    promotion = {"model": MODEL, "challenger": {"version": 4}, "champion": None, "promoted": True, "reasons": []}
    nodes.put_in_use({**promotion, "trained_by": "7", "drift": {"verdict": "warn", "since": 2}})
    assert [call[0] for call in calls] == ["note_drift", "note_reasons", "promote", "note_decision"]
    assert calls[0] == ("note_drift", MODEL, 4, "warn", {"since": 2})


def test_the_record_is_written_before_the_aliases_are_moved() -> None:
    order = [node.short_name for node in create_pipeline().nodes]
    assert order.index("decide_promotion") < order.index("put_in_use")
    assert order.index("score_champion") < order.index("decide_promotion")
    assert order[-1] == "end_if_stopped"
