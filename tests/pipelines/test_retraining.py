import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from cxr_pipeline import tracking
from cxr_pipeline.common.errors import Unavailable, UserError
from cxr_pipeline.deployment.data_changes import images_used
from cxr_pipeline.experiments import cells
from cxr_pipeline.experiments.cells import Launch
from cxr_pipeline.experiments.jobs import Job, Outcome
from cxr_pipeline.framework import config
from cxr_pipeline.pipelines.data_validation import nodes as vetting
from cxr_pipeline.pipelines.retraining import nodes
from cxr_pipeline.tracking import aliases, promotion_records, runs

MODEL = "cxr-chest-demo"
TASK = config.Task(name="chest", title="Chest", kind="binary", classes={"well": ("well",), "ill": ("ill",)})
SOURCES = config.Sources({"a": {"layout": "phantoms", "path": "a", "n_patients": 3, "prevalence": {}}})
RULE = config.Retraining(
    floors={"auc": 0.6},
    sensitivity_margin=0.05,
    auc_margin=0.02,
    improvement="better",
    max_relabelled_fraction=0.25,
    force=False,
)
IMAGES = pd.DataFrame(
    {
        "source": "a",
        "image": list("1234"),
        "sha256": [letter * 64 for letter in "abcd"],
        "patient_id": list("pqrs"),
        "label_ill": [0.0, 1.0, 0.0, 1.0],
        "label_well": [1.0, 0.0, 1.0, 0.0],
    }
)
SPLITS = IMAGES[["source", "image", "sha256", "patient_id"]].assign(split=["train", "train", "validation", "test"])
USED = images_used(IMAGES, SPLITS, pd.DataFrame({"sha256": []}, dtype="str"))
TRAIN = {"train": True, "model": MODEL, "champion": None, "digest": "7" * 64, "newer": True, "news": None, "why": "?"}


@pytest.fixture
def folders(tmp_path: Path) -> config.Folders:
    return config.Folders(**dict.fromkeys(config.Folders.model_fields, tmp_path))


@pytest.fixture
def launch(call: dict[str, Any]) -> Launch:
    return Launch(**call, parameters={"training": {"epochs": 2}})


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What MLflow knows, in its place: champion, its images, what was decided; and what is done to it."""
    found = SimpleNamespace(champion=None, used=USED, decided=None, tags={}, calls=[])
    given = {"champion": None, "previous": None, "challenger": None}
    monkeypatch.setattr(aliases, "aliases_of", lambda model: {**given, "champion": found.champion})
    monkeypatch.setattr(promotion_records, "images_of_champion", lambda model, version: found.used)
    monkeypatch.setattr(promotion_records, "decided_version", lambda model, digest: found.decided)
    monkeypatch.setattr(promotion_records, "finish_decision", lambda *args: found.calls.append(("finish", *args)))
    monkeypatch.setattr(runs, "set_tags", found.tags.update)
    monkeypatch.setattr(tracking, "nest_run", lambda *args: found.calls.append(("nest", *args)))
    return found


class TestLookForNews:
    def look(self, images: pd.DataFrame, launch: Launch, **rule: Any) -> dict[str, Any]:
        return vetting.look_for_news(images, TASK, SOURCES, RULE.model_copy(update=rule), launch)

    def test_without_a_champion_there_is_all_to_learn(self, registered, launch) -> None:
        found = self.look(IMAGES, launch)
        assert (found["train"], found["model"], found["champion"], found["newer"]) == (True, MODEL, None, True)
        assert registered.tags == {}
        json.dumps(found)

    def test_the_champions_own_images_are_nothing_new(self, registered, launch, caplog) -> None:
        registered.champion = 3
        found = self.look(IMAGES.iloc[::-1], launch)
        assert not found["train"]
        assert not found["newer"]
        assert registered.tags == {"skipped": "nothing new"}
        assert registered.calls == [("finish", MODEL, 3)]
        assert self.look(IMAGES, launch, force=True)["train"]

    def test_a_label_or_a_image_more_is_new(self, registered, launch) -> None:
        registered.champion = 3
        found = self.look(IMAGES.assign(label_ill=[1.0, 1.0, 0.0, 1.0]), launch)
        assert (found["news"]["relabelled"], found["stopped"]) == (1, None)
        registered.used = USED.iloc[1:]
        found = self.look(IMAGES, launch)
        assert (found["train"], found["newer"], found["news"]["new"]) == (True, True, 1)

    def test_many_labels_that_change_at_once_stop_it_before_any_training(self, registered, launch) -> None:
        registered.champion = 3
        found = self.look(IMAGES.assign(label_ill=[1.0, 0.0, 0.0, 1.0]), launch)
        assert not found["train"]
        assert found["stopped"].startswith("2 of 4 images have other labels")
        assert "chest.retraining.max_relabelled_fraction=0.5" in found["stopped"]
        assert registered.tags == {}
        json.dumps(found)

    def test_what_a_training_depends_on_names_it(self, registered, launch) -> None:
        digest = self.look(IMAGES, launch)["digest"]
        assert self.look(IMAGES.assign(image="x", path="y").iloc[::-1], launch)["digest"] == digest
        assert (
            self.look(IMAGES, replace(launch, parameters={**launch.parameters, "retraining": {}}))["digest"] == digest
        )
        others = [
            self.look(IMAGES.iloc[1:], launch),
            self.look(IMAGES.assign(label_ill=1.0), launch),
            self.look(IMAGES, replace(launch, parameters={"training": {"epochs": 3}})),
        ]
        assert len({digest, *(other["digest"] for other in others)}) == 4


class TestTrainChallenger:
    @pytest.fixture
    def place(self, tmp_path: Path) -> Path:
        return tmp_path / "chest" / "retraining" / ("7" * 16)

    @pytest.fixture
    def jobs(self, monkeypatch: pytest.MonkeyPatch, place: Path) -> list[Job]:
        """Trainings that are asked for; each succeeds."""
        seen: list[Job] = []

        def run(job: Job, neighbours: int) -> Outcome:
            seen.append(job)
            self.leave(place, 9)
            return Outcome(job.name, None, 1.0, 2.0)

        monkeypatch.setattr(nodes, "run_job", run)
        monkeypatch.setattr(tracking, "resolve_version", lambda uri: None)
        return seen

    def leave(self, place: Path, number: int) -> None:
        uri = f"models:/{MODEL}/{number}"
        version = {"name": MODEL, "version": number, "uri": uri, "run_id": "r", "digest": "d"}
        for part in ("06_models", "05_model_input"):
            (place / part / "chest").mkdir(parents=True, exist_ok=True)
        (place / "06_models" / "chest" / "model_version.json").write_text(json.dumps(version))
        SPLITS.to_parquet(place / "05_model_input" / "chest" / "splits.parquet")

    def train(self, folders: config.Folders, launch: Launch, **changes: Any) -> dict[str, Any]:
        ledger = changes.pop("ledger", SPLITS.iloc[:0])
        return nodes.train_challenger({**TRAIN, **changes}, ledger, TASK, folders, launch)

    def test_the_tasks_own_pipeline_is_run_in_a_folder_of_its_own(self, registered, folders, launch, jobs, place):
        assert self.train(folders, launch) == {"folder": str(place)} | nodes.Outputs(place, "chest").version
        (job,) = jobs
        assert job.module == cells.SESSION
        wanted = {"task": "chest", "wanted": "model_version", "folder": str(place), "parent_run": "parent"}
        assert wanted.items() <= job.payload.items()
        assert job.payload["overrides"] == {}
        assert json.loads((place / "outcome.json").read_text())["error"] is None

    def test_what_was_trained_before_is_taken_over(self, registered, folders, launch, jobs, place) -> None:
        self.leave(place, 8)
        assert self.train(folders, launch)["version"] == 8
        assert self.train(folders, launch, ledger=SPLITS)["version"] == 8
        assert jobs == []
        assert registered.calls == [("nest", "r", "parent")] * 2

    def test_what_was_trained_with_other_splits_or_is_gone_is_trained_again(
        self, registered, folders, launch, jobs, place, monkeypatch
    ) -> None:
        self.leave(place, 8)
        assert self.train(folders, launch, ledger=SPLITS.assign(split="test"))["version"] == 9

        def gone(uri: str) -> None:
            raise UserError("gone")

        monkeypatch.setattr(tracking, "resolve_version", gone)
        self.train(folders, launch)
        assert len(jobs) == 2

    def test_a_training_that_fails_is_a_mistake_with_its_log(self, registered, folders, launch, place, monkeypatch):
        monkeypatch.setattr(nodes, "run_job", lambda job, neighbours: Outcome(job.name, "it diverged", 1.0, 2.0))
        with pytest.raises(UserError, match=f"challenger of chest was not trained: it diverged .*{place}/log.txt"):
            self.train(folders, launch)

    def test_a_training_that_was_killed_may_succeed_later(self, registered, folders, launch, place, monkeypatch):
        killed = Outcome("challenger", "it was killed by signal 9", 1.0, 2.0, may_pass=True)
        monkeypatch.setattr(nodes, "run_job", lambda job, neighbours: killed)
        with pytest.raises(Unavailable, match="was not trained: it was killed by signal 9"):
            self.train(folders, launch)

    def test_a_champion_of_other_classes_stops_it_before_any_training(
        self, registered, folders, launch, jobs, monkeypatch
    ) -> None:
        asked: list[str] = []
        rule = SimpleNamespace(kind="binary", classes=("well", "pneumonia"))
        other = SimpleNamespace(decision_rule=rule)
        monkeypatch.setattr(promotion_records, "load_classifier", lambda uri: asked.append(uri) or other)
        with pytest.raises(UserError, match=f"{MODEL} 3, decides between well, pneumonia .* expected well, ill"):
            self.train(folders, launch, champion=3)
        assert (asked, jobs) == ([f"models:/{MODEL}/3"], [])
        rule.classes = ("well", "ill")
        assert self.train(folders, launch, champion=3)["version"] == 9

    def test_where_nothing_is_new_nothing_is_done(self, registered, folders, launch, jobs) -> None:
        assert self.train(folders, launch, train=False, champion=3) == {}
        assert jobs == []


def test_without_a_challenger_nobody_is_dealt() -> None:
    assert nodes.extend_splits({}, SPLITS, TASK) is SPLITS
