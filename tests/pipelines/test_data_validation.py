"""The validation of new phantoms with a network that recognises ill patients."""

import json
from types import SimpleNamespace

import pandas as pd
import pytest
from phantom_patients import SOURCE, write
from shipped import parameters_of

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.deployment.data_changes import images_used
from cxr_pipeline.framework.config import Drift, Folders, Retraining, Sources, Task
from cxr_pipeline.pipelines import data_validation as nodes
from cxr_pipeline.pipelines.ingestion import list_images
from cxr_pipeline.tracking import aliases, artifacts, promotion_records, runs, versions

MODEL = "cxr-chest-demo"
DEFAULTS = parameters_of()
TASK = Task(name="chest", title="Chest", kind="binary", classes={"well": ("well",), "ill": ("ill",)})
SOURCES = Sources({"old": {**SOURCE, "path": "old"}, "new": {**SOURCE, "path": "new"}})
RULE = Retraining(**DEFAULTS["retraining"])


@pytest.fixture
def known(monkeypatch, classifier, profile):
    """A stub of MLflow: versions 2 and 3, of which 3 is the champion, and the tags of the run."""
    found = SimpleNamespace(profiles={2: profile, 3: profile}, tags={}, used={}, reference=None, other_classes=None)

    def resolve(uri):
        number = int(uri.rpartition("/")[2])
        if number not in found.profiles:
            raise UserError("There is no such version.")
        return versions.ModelVersion(uri, name=MODEL, version=number, run_id="r")

    def load(name, number, **task):
        if number == found.other_classes:
            raise UserError("Its classes differ.")
        return classifier

    monkeypatch.setattr(aliases, "aliases_of", lambda name: {"champion": 3, "reference": found.reference})
    monkeypatch.setattr(versions, "resolve_version", resolve)
    monkeypatch.setattr(artifacts, "usable_profile", lambda version: found.profiles[version.version])
    monkeypatch.setattr(promotion_records, "load_champion", load)
    monkeypatch.setattr(artifacts, "images_of_champion", lambda name, number: found.used[number])
    monkeypatch.setattr(runs, "set_tags", found.tags.update)
    return found


def validate(known, raw, n_new=60, on_drift="refuse", n_before=0, **images):
    """Validate images of new patients, from a source of their own, beside images of the champion.

    The champion, version 3, has the first ``n_before`` of them too; version 2 does not.
    """
    write(raw / "old", range(1, 7))
    write(raw / "new", range(301, 301 + n_new), **images)
    folders = Folders(**{**{name: raw / name for name in Folders.model_fields}, "raw": raw})
    table, _, _ = list_images(SOURCES, folders, TASK)
    is_old = table["source"] == "old"
    for version, n_known in ((2, 0), (3, n_before)):
        rows = table[is_old | (table["patient_id"].astype(int) < 301 + n_known)]
        splits = rows[["source", "image", "sha256", "patient_id"]].assign(split="train")
        known.used[version] = images_used(rows, splits, pd.DataFrame({"sha256": []}, dtype="str"))
    changes = {"train": True, "stopped": None, "model": MODEL, "champion": 3, "changes": {"new": n_new - n_before}}
    rule = RULE.model_copy(update={"on_drift": on_drift})
    found = nodes.validate_changes(changes, table, TASK, SOURCES, folders, Drift(**DEFAULTS["drift"]), rule)
    json.dumps(found, allow_nan=False)
    return found


def verdicts(found):
    return {family["name"]: family["verdict"] for family in found["drift"]["families"]}


def compared(found):
    """Return the verdict, the version that new images were compared with, and their number."""
    return found["drift"]["verdict"], found["drift"]["model"]["version"], found["drift"]["n_new"]


def test_new_images_of_the_same_kind_are_trained_on(known, tmp_path):
    found = validate(known, tmp_path)
    assert found["drift"]["verdict"] == "none", found["drift"]["sentence"]
    assert "unknown" not in verdicts(found).values()
    assert (found["train"], found["stopped"], known.tags) == (True, None, {"drift": "none"})
    assert found["drift"]["new_images"]["images"] == found["drift"]["n_new"] == 60


@pytest.mark.parametrize("on_drift", ["refuse", "warn"])
def test_wrong_labels_of_new_images_stop_the_retraining_unless_allowed(known, tmp_path, on_drift):
    found = validate(known, tmp_path, on_drift=on_drift, flipped=True)
    same = dict.fromkeys(("pixels", "features", "scores"), "none")
    assert verdicts(found) == {**same, "prevalence": "warn", "calibration": "refuse"}
    assert known.tags == {"drift": "refuse"}
    assert found["train"] == (on_drift == "warn")
    if on_drift == "warn":
        assert found["stopped"] is None
    else:
        for part in ("Drift in prevalence", "calibration (ill", f"those of {MODEL} 3."):
            assert part in found["stopped"]


def test_too_few_images_or_a_missing_profile_do_not_stop_the_retraining(known, tmp_path):
    found = validate(known, tmp_path / "few", n_new=20, flipped=True)
    assert (found["train"], compared(found), known.tags) == (True, ("unknown", 3, 20), {"drift": "unknown"})
    known.profiles[3] = None
    found = validate(known, tmp_path / "none", flipped=True)
    assert (found["train"], compared(found)) == (True, ("unknown", 3, 0))
    assert f"{MODEL} 3 has no reference profile" in found["drift"]["sentence"]


def test_images_accumulate_until_the_reference_has_them(known, tmp_path):
    known.reference = 2
    found = validate(known, tmp_path, n_before=40, flipped=True)
    assert compared(found) == ("refuse", 2, 60)
    assert f"The champion, {MODEL} 3, was trained on some of them" in found["stopped"]
    assert compared(validate(known, tmp_path / "relabelled", n_new=20, n_before=20)) == ("unknown", 2, 20)
    known.reference = None
    assert compared(validate(known, tmp_path, n_before=40, flipped=True)) == ("unknown", 3, 20)
    assert validate(known, tmp_path / "relabelled", n_new=20, n_before=20)["drift"] is None


def test_the_reference_may_be_a_challenger_that_was_not_promoted(known, tmp_path):
    validate(known, tmp_path, n_before=25)
    known.profiles[4], known.used[4], known.reference = known.profiles[3], known.used[3], 4
    assert compared(validate(known, tmp_path)) == ("none", 4, 35)
    known.used[4] = known.used[4].assign(label_ill=1 - known.used[4]["label_ill"])
    assert compared(validate(known, tmp_path)) == ("none", 4, 60)


@pytest.mark.parametrize("lost", ["deleted", "without a profile", "with other classes"])
def test_the_champion_replaces_an_unusable_reference(known, tmp_path, lost):
    known.reference = 2
    if lost == "deleted":
        del known.profiles[2]
    elif lost == "without a profile":
        known.profiles[2] = None
    else:
        known.other_classes = 2
    assert compared(validate(known, tmp_path, n_before=20)) == ("none", 3, 40)
