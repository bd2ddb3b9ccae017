import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pandas as pd
import pytest
from shipped import parameters_of

from cxr_pipeline.common.errors import Unavailable, UserError
from cxr_pipeline.data.sources.pseudonyms import VARIABLE
from cxr_pipeline.deployment.classifier import ImageClassifier
from cxr_pipeline.deployment.data_changes import images_used, with_patients
from cxr_pipeline.experiments.jobs import Outcome
from cxr_pipeline.experiments.task_run import MODULE
from cxr_pipeline.framework import config
from cxr_pipeline.pipelines import data_validation
from cxr_pipeline.pipelines import retraining as nodes
from cxr_pipeline.tracking import aliases, artifacts, promotion_records, runs, versions

MODEL = "cxr-chest-demo"
TASK = config.Task(name="chest", title="Chest", kind="binary", classes={"well": ("well",), "ill": ("ill",)})
SOURCES = config.Sources({"a": {"layout": "phantoms", "path": "a", "n_patients": 3, "prevalence": {}}})
RULE = config.Retraining(**{**parameters_of()["retraining"], "max_relabelled_fraction": 0.25})
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
TRAIN = {"train": True, "model": MODEL, "champion": None, "digest": "7" * 64, "newer": True, "changes": None, "why": ""}


@pytest.fixture
def folders(tmp_path):
    """The same folder for everything."""
    return config.Folders(**dict.fromkeys(config.Folders.model_fields, tmp_path))


@pytest.fixture
def launch(current_run):
    return replace(current_run, task="chest", parameters={"training": {"epochs": 2}})


@pytest.fixture
def registered(monkeypatch):
    """A stub of MLflow: the champion, its images, an earlier decision, and the changes that were made."""
    monkeypatch.setenv(VARIABLE, "a key that nobody can guess")
    used = with_patients(USED, IMAGES, Path("nowhere"))
    found = SimpleNamespace(champion=None, used=used, same_key=True, decided=None, tags={}, calls=[])
    given = dict.fromkeys(aliases.ALIASES)
    monkeypatch.setattr(aliases, "aliases_of", lambda model: {**given, "champion": found.champion})
    monkeypatch.setattr(artifacts, "images_of_champion", lambda model, version: found.used)
    monkeypatch.setattr(artifacts, "hashed_with", lambda model, version, key_file: found.same_key)
    monkeypatch.setattr(promotion_records, "decided_version", lambda model, digest: found.decided)
    monkeypatch.setattr(promotion_records, "finish_decision", lambda *args: found.calls.append(("finish", *args)))
    monkeypatch.setattr(runs, "set_tags", found.tags.update)
    monkeypatch.setattr(runs, "nest_run", lambda *args: found.calls.append(("nest", *args)))
    return found


class TestFindChanges:
    def find(self, images, launch, **rule):
        folders = config.Folders(**dict.fromkeys(config.Folders.model_fields, Path("nowhere")))
        retraining = RULE.model_copy(update=rule)
        found = data_validation.find_changes(images, TASK, SOURCES, folders, retraining, launch)
        json.dumps(found)
        return found

    def test_unchanged_images_are_trained_on_only_by_force(self, registered, launch):
        registered.champion = 3
        found = self.find(IMAGES.iloc[::-1], launch)
        assert (found["train"], found["newer"]) == (False, False)
        assert registered.tags == {"skipped": "nothing new"}
        assert registered.calls == [("finish", MODEL, 3)]
        assert self.find(IMAGES, launch, force=True)["train"]

    def test_patients_hashed_with_another_key_are_not_compared(self, registered, launch):
        registered.champion = 3
        corrected = IMAGES.assign(patient_id=list("pprs"))
        assert self.find(corrected, launch)["changes"]["reassigned"] == 1
        registered.same_key = False
        assert self.find(corrected, launch)["changes"]["reassigned"] == 0

    def test_splits_are_not_renewed(self, registered, launch):
        renewing = replace(launch, parameters={"splitting": {"renew": True}})
        with pytest.raises(UserError, match=r"kedro run --pipeline=chest --params chest\.splitting\.renew=true"):
            self.find(IMAGES, renewing)

    def test_too_many_relabelled_images_stop_the_retraining(self, registered, launch):
        registered.champion = 3
        found = self.find(IMAGES.assign(label_ill=[1.0, 0.0, 0.0, 1.0]), launch)
        assert not found["train"]
        assert found["stopped"].startswith("2 of 4 images have new labels")
        assert registered.tags == {}

    def test_the_digest_depends_on_images_labels_patients_and_training_parameters(self, registered, launch):
        digest = self.find(IMAGES, launch)["digest"]
        unused = replace(launch, parameters={**launch.parameters, "retraining": {}})
        assert digest == self.find(IMAGES.assign(image="x", path="y").iloc[::-1], launch)["digest"]
        assert digest == self.find(IMAGES, unused)["digest"]
        others = [
            self.find(IMAGES.iloc[1:], launch),
            self.find(IMAGES.assign(label_ill=1.0), launch),
            self.find(IMAGES.assign(patient_id="p"), launch),
            self.find(IMAGES, replace(launch, parameters={"training": {"epochs": 3}})),
        ]
        assert len({digest, *(other["digest"] for other in others)}) == 5


class TestTrainChallenger:
    @pytest.fixture
    def place(self, tmp_path):
        return tmp_path / "chest" / "retraining" / ("7" * 16)

    @pytest.fixture
    def jobs(self, monkeypatch, place):
        """The training runs that are started; each succeeds."""
        seen = []

        def run(job, neighbours):
            seen.append(job)
            self.leave(place, 9)
            return Outcome(job.name, None, 1.0, 2.0)

        monkeypatch.setattr(nodes, "run_job", run)
        monkeypatch.setattr(versions, "resolve_version", lambda uri: None)
        return seen

    def leave(self, place, number):
        uri = f"models:/{MODEL}/{number}"
        version = {"name": MODEL, "version": number, "uri": uri, "run_id": "r", "digest": "d"}
        for part in ("06_models", "05_model_input", "08_reporting"):
            (place / part / "chest").mkdir(parents=True, exist_ok=True)
        (place / "06_models" / "chest" / "model_version.json").write_text(json.dumps(version))
        (place / "08_reporting" / "chest" / "report.html").write_text("report")
        (place / "08_reporting" / "chest" / "warnings.json").write_text('["Few test images."]')
        SPLITS.to_parquet(place / "05_model_input" / "chest" / "splits.parquet")

    def train(self, folders, launch, **changes):
        registry = changes.pop("registry", SPLITS.iloc[:0])
        return nodes.train_challenger({**TRAIN, **changes}, registry, TASK, folders, launch)

    def test_the_pipeline_of_the_task_runs_in_its_own_folder(self, registered, folders, launch, jobs, place, caplog):
        trained = self.train(folders, launch)
        assert trained == {"folder": str(place), **nodes.RunOutputs(place, "chest").load("model_version")}
        assert "The challenger: Few test images." in caplog.messages
        (job,) = jobs
        assert job.module == MODULE
        assert (job.payload["task"], job.payload["to_output"]) == ("chest", "report")
        cell = {"name": "challenger", "folder": str(place), "parent_run": "parent"}
        assert job.payload["runtime_params"] == {"raw": "/r", "chest": {}, "cell": cell}

    def test_an_earlier_challenger_is_reused_unless_it_is_incomplete(
        self, registered, folders, launch, jobs, place, monkeypatch
    ):
        self.leave(place, 8)
        assert self.train(folders, launch)["version"] == 8
        assert self.train(folders, launch, registry=SPLITS)["version"] == 8
        assert jobs == []
        assert registered.calls == [("nest", "r", "parent")] * 2
        assert self.train(folders, launch, registry=SPLITS.assign(split="test"))["version"] == 9
        self.leave(place, 8)
        nodes.RunOutputs(place, "chest").path("report").unlink()
        assert self.train(folders, launch)["version"] == 9
        self.leave(place, 8)
        monkeypatch.setattr(versions, "resolve_version", Mock(side_effect=UserError("gone")))
        assert self.train(folders, launch)["version"] == 9

    @pytest.mark.parametrize(("retryable", "error"), [(False, UserError), (True, Unavailable)])
    def test_a_failed_training_names_its_log(self, folders, launch, place, monkeypatch, retryable, error):
        failed = Outcome("challenger", "killed by signal 9", 1.0, 2.0, retryable=retryable)
        monkeypatch.setattr(nodes, "run_job", lambda job, neighbours: failed)
        with pytest.raises(error, match=f"was not trained: killed by signal 9 .*{place}/log.txt") as raised:
            self.train(folders, launch)
        assert type(raised.value) is error

    def test_a_champion_with_other_classes_stops_the_retraining(self, registered, folders, launch, jobs, monkeypatch):
        rule = SimpleNamespace(kind="binary", classes=("well", "pneumonia"))
        monkeypatch.setattr(promotion_records, "load_classifier", lambda uri: ImageClassifier(None, None, rule, {}))
        with pytest.raises(UserError, match=f"{MODEL} 3 is binary, with the classes well, pneumonia"):
            self.train(folders, launch, champion=3)
        assert jobs == []
        rule.classes = ("well", "ill")
        assert self.train(folders, launch, champion=3)["version"] == 9
