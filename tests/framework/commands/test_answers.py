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


def version(number: int = 1, run_id: str | None = "7f", **changes: Any) -> VersionRecord:
    values = {"tags": TAGS, "metrics": METRICS, "parameters": {"training.epochs": "3"}, "aliases": (), **changes}
    return VersionRecord("cxr-ill", number, date=datetime(2031, 5, 4, tzinfo=UTC), run_id=run_id, **values)


def printed(*renderables: Any) -> str:
    console = Console(width=200)
    with console.capture() as capture:
        for renderable in renderables:
            console.print(renderable)
    return capture.get()


def row(text: str, first: str) -> str:
    """Return the row of a printed table that starts with ``first``, its cells joined by spaces."""
    lines = [" ".join(line.replace("│", " ").split()) for line in text.splitlines()]
    (line,) = [line for line in lines if line.startswith(first)]
    return line


@pytest.fixture
def key_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert key_fingerprint(tmp_path / "key", make=True)
    return tmp_path / "key"


@pytest.fixture(autouse=True)
def images(key_file: Path, monkeypatch: pytest.MonkeyPatch) -> dict[int, pd.DataFrame | None]:
    """The images of each version, instead of MLflow's artifacts."""
    images: dict[int, pd.DataFrame | None] = {1: with_patients(USED, MANIFEST, key_file)}
    monkeypatch.setattr(answers.artifacts, "images_of_version", lambda name, number: images[number])
    rule = {"thresholds": {"ill": 0.25}, "calibration": {"method": "platt"}}
    settings = {"recipe": {"size": 64, "steps": []}, "decision_rule": rule}
    monkeypatch.setattr(answers, "settings_of", lambda version: settings if version.run_id else {})
    return images


def hashed(key_file: Path, number: int = 1) -> VersionRecord:
    return version(number, tags={**TAGS, "patient_key": key_fingerprint(key_file, make=False)})


def who(versions: list[VersionRecord], patient: str, key_file: Path) -> str:
    return printed(*answers.who_saw_patient(versions, [patient], key_file))


def test_the_overview_has_a_row_for_each_version() -> None:
    rolled_back = {"decision": "promoted", "rolled_back": "today"}
    versions = [
        version(3, tags=rolled_back, metrics={}),
        version(2, aliases=("champion",)),
        version(tags={}, metrics={}),
    ]
    text = printed(answers.overview_of(versions))
    assert row(text, "3 ") == "3 2031-05-04 rolled back"
    assert row(text, "2 ") == "2 champion 2031-05-04 4 2 99999999 0f3a9c1d+ 0.875"
    assert row(text, "1 ") == "1 2031-05-04"


class TestDetails:
    def test_all_information_is_shown(self) -> None:
        tags = {**TAGS, "test_digest": "8" * 64, "decision": "promoted", "decision_reasons": "It is better."}
        today = {"training": {"epochs": 5, "loss": "focal"}}
        text = printed(answers.details_of(version(tags=tags), today))
        for line in (
            "run 7f", "images train 2, test 1, refused 1", "patients train 1, test 1", f"tag test_digest {'8' * 64}",
            "tag git_commit 0f3a9c1d2b4e5a6c+changes", "recipe size: 64", "decision_rule thresholds.ill: 0.250",
            "metrics auc: 0.875 (0.750 to 0.938)", "changed since training.epochs: 3 (today 5)",
            "tag decision promoted", "tag decision_reasons It is better.", "model card model_card.md of the run",
            "parameters 1 in the run", "list of images lineage/images.parquet of the run, or use --images FILE",
        ):  # fmt: skip
            assert row(text, line)

    def test_equal_parameters_of_different_type_have_not_changed(self) -> None:
        one = version(parameters={"training.learning_rate": "0.001", "a": "1.0", "model.weights": "None"})
        today = {"training": {"learning_rate": 1e-3}, "a": 1, "model": {"weights": None}}
        assert row(printed(answers.details_of(one, today)), "changed since") == "changed since none"

    def test_missing_information_is_not_on_record(self, images) -> None:
        text = printed(answers.details_of(version(run_id=None, metrics={}, parameters={}, tags={}), {}))
        for name in ("run", "images", "list of images", "recipe", "metrics", "parameters", "model card"):
            assert row(text, f"{name} ") == f"{name} not on record"
        images[1] = USED
        assert row(printed(answers.details_of(version(), {})), "patients") == "patients not on record"


def test_images_are_written_as_csv(images, tmp_path) -> None:
    message = printed(answers.write_images(version(), tmp_path / "images.csv"))
    assert pd.read_csv(tmp_path / "images.csv")["sha256"].tolist() == CONTENTS
    assert "4711" not in (tmp_path / "images.csv").read_text()
    assert message.startswith("4 images of cxr-ill 1 are in ")
    with pytest.raises(UserError, match="Cannot write"):
        answers.write_images(version(), tmp_path / "nowhere" / "images.csv")
    images[1] = None
    with pytest.raises(UserError, match="its run was deleted"):
        answers.write_images(version(run_id=None), tmp_path / "images.csv")


def test_versions_that_have_seen_an_image_are_listed(images) -> None:
    images |= {2: USED.iloc[3:], 3: None}
    text = printed(*answers.who_saw_image([version(3), version(2), version()], CONTENTS[2]))
    assert row(text, "1 2031").endswith("test 1")
    assert row(text, "2 2031").endswith("not seen")
    assert row(text, "3 2031").endswith("unknown: its run logged none")
    assert "1 of 3 versions have seen" in text
    assert "For 1 it is unknown." in text


class TestWhoSawPatient:
    def test_a_patient_is_found_in_the_splits_of_its_images(self, key_file) -> None:
        text = who([hashed(key_file)], "4711", key_file)
        assert row(text, "1 2031").endswith("train 2")
        assert "1 of 1 versions have seen the patient 4711." in text
        stranger = who([hashed(key_file)], "4712", key_file)
        assert row(stranger, "1 2031").endswith("not seen")
        assert "unknown" not in stranger

    def test_images_of_unknown_patients_are_mentioned(self, images, key_file) -> None:
        manifest = MANIFEST.assign(patient_id=pd.Series(["4711", None, None], dtype="str"))
        images[1] = with_patients(USED, manifest, key_file)
        text = who([hashed(key_file)], "12", key_file)
        assert row(text, "1 2031").endswith("not seen; perhaps among 2 images whose patient is unknown")

    @pytest.mark.parametrize("patient", ["4711", "4712"])
    def test_another_key_is_detected(self, key_file, monkeypatch, patient) -> None:
        versions = [hashed(key_file)]
        monkeypatch.setenv(VARIABLE, "another key, long enough")
        text = who(versions, patient, key_file)
        assert "unknown: hashed with another key (fingerprint" in row(text, "1 2031")
        assert "For 1 it is unknown." in text

    def test_a_missing_key_raises(self, key_file) -> None:
        versions = [hashed(key_file)]
        key_file.unlink()
        with pytest.raises(UserError, match=f"is missing.*{VARIABLE} .fingerprint {versions[0].tags['patient_key']}"):
            who(versions, "4711", key_file)
        assert not key_file.exists()

    def test_versions_without_patients_are_unknown(self, images, key_file) -> None:
        images |= {2: USED, 4: with_patients(USED, MANIFEST.assign(patient_id=None), key_file)}
        text = who([version(4), version(2), hashed(key_file)], "4711", key_file)
        assert row(text, "4 2031").endswith("unknown: its sources have no patient ids")
        assert row(text, "2 2031").endswith("unknown: registered before patients were recorded")
        assert "1 of 3 versions have seen the patient 4711. For 2 it is unknown." in text
