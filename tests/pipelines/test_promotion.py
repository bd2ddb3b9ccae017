import pandas as pd
import pytest

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.framework import config
from cxr_pipeline.pipelines import promotion as nodes
from cxr_pipeline.tracking import artifacts, runs

MODEL = "cxr-chest-demo"
TASK = config.Task(name="chest", title="Chest", kind="binary", classes={"well": ("well",), "ill": ("ill",)})
PROMOTION = {
    "model": MODEL,
    "challenger": {"version": 4},
    "champion": {"version": 3, "uri": f"models:/{MODEL}/3"},
    "promoted": True,
    "reasons": ["So."],
    "trained_by": "7",
    "floors": [{"met": True}],
    "drift": None,
}


@pytest.mark.parametrize("champion", [None, PROMOTION["champion"]])
@pytest.mark.parametrize("promoted", [True, False])
def test_the_decision_is_noted_after_the_aliases_were_moved(calls, promoted, champion):
    nodes.move_aliases({**PROMOTION, "promoted": promoted, "champion": champion})
    over = {"over": champion and 3}
    assert calls == [
        ("note_reasons", MODEL, 4, ["So."], {"trained_by": "7", "drift": None}),
        ("set_reference", MODEL, 4, {}),
        ("promote", MODEL, 4, over) if promoted else ("keep_as_challenger", MODEL, 4, {}),
        ("note_decision", MODEL, 4, {"promoted": promoted}),
    ]


@pytest.mark.parametrize("promoted", [True, False])
@pytest.mark.parametrize(
    ("verdict", "floor_met", "reference"),
    [("none", True, 4), ("warn", True, 4), ("refuse", True, 4), ("unknown", True, 2), ("none", False, None)],
)
def test_the_reference_moves_once_the_new_images_were_checked(calls, promoted, verdict, floor_met, reference):
    drift = {"verdict": verdict, "model": {"version": 2}}
    floors = [{"met": True}, {"met": floor_met}]
    nodes.move_aliases({**PROMOTION, "promoted": promoted, "drift": drift, "floors": floors})
    assert calls[0][-1]["drift"] == verdict
    assert [call[2] for call in calls if call[0] == "set_reference"] == ([reference] if reference else [])


def test_a_stop_writes_a_record_moves_no_alias_and_fails_the_run(calls, monkeypatch):
    tags = {}
    logged = {}
    monkeypatch.setattr(runs, "set_tags", tags.update)
    monkeypatch.setattr(artifacts, "log_texts", lambda texts, folder: logged.update(texts))
    changes = {
        **{"task": "chest", "model": MODEL, "phantom": True, "champion": 3, "train": False, "why": "9 new images."},
        **{"stopped": "Too many labels.", "changes": {"new": 9}, "drift": None, "digest": "7"},
    }
    files, promotion = nodes.decide_promotion({}, pd.DataFrame(), changes, TASK, None, None)
    assert sorted(files) == sorted(logged)
    assert len(files) == 2
    assert nodes.move_aliases(promotion) == {"champion": 3}
    assert calls == []
    assert tags == {"decision": "stopped", "decision_reasons": "Too many labels."}
    with pytest.raises(UserError, match=r"Too many labels\. \(See the record decisions/.*Z\.md ") as raised:
        nodes.fail_if_stopped(promotion, {})
    assert any(name in str(raised.value) for name in files)
