"""What ``kedro lineage`` answers."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.sources.pseudonyms import VARIABLE, key_fingerprint
from cxr_pipeline.deployment.lineage import with_patients
from cxr_pipeline.framework.commands import answers
from cxr_pipeline.tracking.lineage import VersionRecord

CONTENTS = [letter * 64 for letter in "abcd"]
USED = pd.DataFrame({"sha256": CONTENTS, "split": ["train", "train", "test", "refused"]})
MANIFEST = pd.DataFrame(
    {"source": "nih", "sha256": CONTENTS[:3], "patient_id": pd.Series(["4711", "4711", "12"], dtype="str")}
)
TAGS = {"data_digest": "9" * 64, "git_commit": "0f3a9c1d2b4e5a6c+changes", "n_images": "4", "n_patients": "2"}
METRICS = {"auc": 0.875, "auc_low": 0.75, "auc_high": 0.9375, "ill/auc": 0.875, "n_images": 40.0, "n_patients": 20.0}


def version(number: int = 1, run_id: str | None = "7f", **changed: Any) -> VersionRecord:
    known = {"tags": TAGS, "metrics": METRICS, "parameters": {"training.epochs": "3"}, "aliases": (), **changed}
    return VersionRecord("cxr-ill", number, date=datetime(2031, 5, 4, tzinfo=UTC), run_id=run_id, **known)


def printed(*shown: Any) -> str:
    console = Console(width=200)
    with console.capture() as capture:
        for each in shown:
            console.print(each)
    return capture.get()


def row(text: str, first: str) -> str:
    """The row of a printed table that begins with ``first``, cells joined by a space."""
    lines = [" ".join(line.replace("│", " ").split()) for line in text.splitlines()]
    (line,) = [line for line in lines if line.startswith(first)]
    return line


@pytest.fixture
def key_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert key_fingerprint(tmp_path / "key", make=True)
    return tmp_path / "key"


@pytest.fixture
def on_record(key_file: Path, monkeypatch: pytest.MonkeyPatch) -> dict[int, pd.DataFrame | None]:
    """The images of each version, in place of MLflow's artifacts."""
    images: dict[int, pd.DataFrame | None] = {1: with_patients(USED, MANIFEST, key_file)}
    monkeypatch.setattr(answers.decisions, "images_of_version", lambda name, number: images[number])
    monkeypatch.setattr(answers, "settings_of", lambda version: {})
    return images


def hashed(key_file: Path, number: int = 1) -> VersionRecord:
    return version(number, tags={**TAGS, "patient_key": key_fingerprint(key_file, make=False)})


def who(versions: list[VersionRecord], patient: str, key_file: Path) -> str:
    return printed(*answers.who_saw_patient(versions, [patient], key_file))


class TestOfAllVersions:
    def test_each_has_a_row(self) -> None:
        text = printed(answers.overview_of([version(2, aliases=("champion",)), version(tags={}, metrics={})]))
        found = row(text, "2 ")
        assert found == ("2 champion 2031-05-04 4 2 99999999 0f3a9c1d+ 0.875")
        assert row(text, "1 ") == "1 2031-05-04"

    def test_one_that_was_rolled_back_says_so(self) -> None:
        tags = {"decision": "promoted", "rolled_back": "today"}
        assert "rolled back" in printed(answers.overview_of([version(tags=tags)]))


class TestOfOneVersion:
    def test_everything_is_told(self, on_record, monkeypatch) -> None:
        rule = {"thresholds": {"ill": 0.25}, "calibration": {"method": "platt"}}
        settings = {"recipe": {"size": 64, "steps": []}, "decision_rule": rule}
        monkeypatch.setattr(answers, "settings_of", lambda _: settings)
        tags = {**TAGS, "test_digest": "8" * 64, "decision": "promoted", "decision_reasons": "It is better."}
        today = {"training": {"epochs": 5, "loss": "focal"}}
        text = printed(answers.details_of(version(tags=tags), today))
        for line in (
            "run 7f", "images train 2, test 1, refused 1", "patients train 1, test 1", f"test digest {'8' * 64}",
            "git commit 0f3a9c1d2b4e5a6c+changes", "recipe size: 64", "decision rule thresholds, ill: 0.250",
            "measured on 40 test images of 20 patients", "figures AUC: 0.875 (0.750 to 0.938)",
            "other than today training.epochs: 3 (today 5)", "decision promoted", "reasons It is better.",
            "model card model_card.md of the run", "parameters 1 in the run",
        ):  # fmt: skip
            assert row(text, line)
        assert "kedro lineage ill 1 --images FILE" in text
        assert "figures of ill" not in text

    def test_parameters_that_only_look_different_are_the_same(self, on_record) -> None:
        one = version(parameters={"training.learning_rate": "0.001", "a": "1.0", "model.weights": "None"})
        today = {"training": {"learning_rate": 1e-3}, "a": 1, "model": {"weights": None}}
        assert row(printed(answers.details_of(one, today)), "other than today") == "other than today none"

    def test_what_is_gone_is_not_on_record(self, on_record) -> None:
        del on_record[1]
        text = printed(answers.details_of(version(run_id=None, metrics={}, parameters={}, tags={}), {}))
        for name in ("run", "images", "list of images", "recipe", "figures", "parameters", "model card"):
            assert row(text, f"{name} ") == f"{name} not on record"

    def test_old_lists_of_images_name_no_patients(self, on_record) -> None:
        on_record[1] = USED
        assert row(printed(answers.details_of(version(), {})), "patients") == "patients not on record"

    def test_images_are_written_as_csv(self, on_record, tmp_path) -> None:
        said = printed(answers.write_images(version(), tmp_path / "images.csv"))
        written = pd.read_csv(tmp_path / "images.csv")
        assert written["sha256"].tolist() == CONTENTS
        assert "4711" not in (tmp_path / "images.csv").read_text()
        assert said.startswith("4 images of cxr-ill 1 are in ")
        with pytest.raises(UserError, match="cannot be written"):
            answers.write_images(version(), tmp_path / "nowhere" / "images.csv")
        on_record[1] = None
        with pytest.raises(UserError, match="not on record: its run is gone"):
            answers.write_images(version(run_id=None), tmp_path / "images.csv")


class TestWhoSawAImage:
    def test_says_in_which_split(self, on_record) -> None:
        on_record[2] = USED.iloc[3:]
        text = printed(*answers.who_saw_image([version(2), version()], CONTENTS[2]))
        assert row(text, "1 2031").endswith("test 1")
        assert row(text, "2 2031").endswith("not seen")
        assert "1 of 2 versions have seen" in text

    def test_a_version_without_images_cannot_tell(self, on_record) -> None:
        on_record[1] = None
        text = printed(*answers.who_saw_image([version()], CONTENTS[2]))
        assert "0 of 1 versions have seen" in text
        assert "Of 1 it cannot be told." in text


class TestWhoSawAPatient:
    def test_says_in_which_split(self, on_record, key_file) -> None:
        text = who([hashed(key_file)], "4711", key_file)
        assert row(text, "1 2031").endswith("train 2")
        assert "1 of 1 versions have seen the patient 4711." in text

    def test_a_stranger_was_not_seen(self, on_record, key_file) -> None:
        text = who([hashed(key_file)], "4712", key_file)
        assert row(text, "1 2031").endswith("not seen")
        assert "cannot be told" not in text

    def test_a_stranger_may_be_among_images_without_a_patient(self, on_record, key_file) -> None:
        manifest = MANIFEST.assign(patient_id=pd.Series(["4711", None, None], dtype="str"))
        on_record[1] = with_patients(USED, manifest, key_file)
        text = who([hashed(key_file)], "12", key_file)
        assert row(text, "1 2031").endswith("not seen; perhaps among 2 images whose patient is not known")

    @pytest.mark.parametrize("patient", ["4711", "4712"])
    def test_another_key_is_noticed(self, on_record, key_file, monkeypatch, patient) -> None:
        versions = [hashed(key_file)]
        monkeypatch.setenv(VARIABLE, "another key, long enough")
        text = who(versions, patient, key_file)
        assert "cannot be told: hashed with another key (fingerprint" in row(text, "1 2031")
        assert "Of 1 it cannot be told." in text

    def test_a_lost_key_is_noticed(self, on_record, key_file) -> None:
        versions = [hashed(key_file)]
        key_file.unlink()
        with pytest.raises(UserError, match=f"is gone.*{VARIABLE} .fingerprint {versions[0].tags['patient_key']}"):
            who(versions, "4711", key_file)
        assert not key_file.exists()

    def test_old_versions_say_that_they_cannot_tell(self, on_record, key_file) -> None:
        on_record |= {2: USED, 3: None, 4: with_patients(USED, MANIFEST.assign(patient_id=None), key_file)}
        text = who([version(4), version(3), version(2), hashed(key_file)], "4711", key_file)
        assert row(text, "4 2031").endswith("cannot be told: its sources do not say whose images they are")
        assert row(text, "3 2031").endswith("cannot be told: its images are not on record")
        assert row(text, "2 2031").endswith("cannot be told: registered before patients were recorded")
        assert "1 of 4 versions have seen the patient 4711. Of 3 it cannot be told." in text
