import hashlib
import json
from datetime import UTC, datetime

import pandas as pd
import pytest
import yaml

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.sources.pseudonyms import VARIABLE, key_fingerprint
from cxr_pipeline.deployment.data_changes import PATIENT, with_patients
from cxr_pipeline.framework.commands import answers
from cxr_pipeline.tracking.model_index import VersionRecord

CONTENTS = [letter * 64 for letter in "abcdef"]
USED = pd.DataFrame({"sha256": CONTENTS, "split": ["train", "train", "test", "validation", "train", "refused"]})
MANIFEST = pd.DataFrame(
    {
        "source": ["nih", "nih", "nih", "images", "images"],
        "sha256": CONTENTS[:5],
        "patient_id": pd.Series(["4711", "4711", "00000012", "p3", None], dtype="str"),
    }
)
TAGS = {"data_digest": "9" * 64, "git_commit": "0f3a9c1d2b4e5a6c+changes", "n_images": "4", "n_patients": "2"}
METRICS = {"auc": 0.875, "auc_low": 0.75, "auc_high": 0.9375, "n_images": 40.0}
MODEL = {"recipe": {"size": 64, "steps": []}, "decision_rule": {"thresholds": {"ill": 0.25}}}


def version(number=1, run_id="run 1", **changes):
    values = {"tags": TAGS, "metrics": METRICS, "parameters": {"training.epochs": "3"}, "aliases": (), **changes}
    unknown = dict.fromkeys(("task", "images", "test_digest", "data_digest", "experiment_id"))
    names = {"kind": "version", "model": "cxr-ill", "number": number, "name": f"cxr-ill {number}"}
    return VersionRecord(**names, date=datetime(2031, 5, 4, tzinfo=UTC), run_id=run_id, **unknown, **values)


def row(text, number):
    """Return the row of a version in a printed table, its cells joined by spaces."""
    lines = [" ".join(line.split()) for line in text.splitlines()]
    (line,) = [line for line in lines if line.startswith(f"{number} ") and "2031-05-04" in line]
    return line.removeprefix(f"{number} ")


@pytest.fixture(autouse=True)
def images(key_file, monkeypatch):
    """The images that each run logged, instead of MLflow's artifacts."""
    images = {"run 1": with_patients(USED, MANIFEST, key_file), None: None}
    monkeypatch.setattr(answers.artifacts, "images_of_run", lambda run_id: images[run_id])
    monkeypatch.setattr(answers, "settings_of", lambda version: MODEL if version.run_id else {})
    return images


@pytest.fixture
def hashed(key_file):
    return version(tags={**TAGS, "patient_key": key_fingerprint(key_file, make=False)})


def test_the_overview_has_a_row_for_each_version():
    rolled_back = {"decision": "promoted", "rolled_back": "today"}
    versions = [
        version(3, tags=rolled_back, metrics={}),
        version(2, aliases=("champion",)),
        version(tags={}, metrics={}),
    ]
    text = answers.overview_of(versions)
    assert row(text, 3) == "2031-05-04 rolled back"
    assert row(text, 2) == "champion 2031-05-04 4 2 99999999 0f3a9c1d+ 0.875"
    assert row(text, 1) == "2031-05-04"


def test_the_details_of_a_version_are_complete():
    tags = {**TAGS, "test_digest": "8" * 64, "decision": "promoted", "decision_reasons": "It is better."}
    today = {"training": {"epochs": 5, "loss": "focal"}}
    assert yaml.safe_load(answers.details_of(version(tags=tags), today)) == {
        "version": "cxr-ill 1",
        "aliases": "none",
        "date": "2031-05-04T00:00:00+00:00",
        "run": "run 1",
        "images": "train 3, validation 1, test 1, refused 1",
        "patients": "train 1, validation 1, test 1",
        "tags": tags,
        "model": MODEL,
        "metrics": {"auc": "0.875 (0.750 to 0.938)", "n_images": 40},
        "changed parameters": {"training.epochs": "3 (today 5)"},
    }


def test_missing_information_is_not_on_record_and_equal_parameters_have_not_changed(images):
    bare = version(run_id=None, metrics={}, parameters={}, tags={})
    facts = yaml.safe_load(answers.details_of(bare, {}))
    for name in ("run", "images", "patients", "tags", "model", "metrics", "changed parameters"):
        assert facts[name] == "not on record"
    images["run 1"] = USED
    one = version(parameters={"training.learning_rate": "0.001", "a": "1.0", "model.weights": "None", "removed": "1"})
    facts = answers.details_of(one, {"training": {"learning_rate": 1e-3}, "a": 1, "model": {"weights": None}})
    assert "changed parameters: none" in facts
    assert "patients: not on record" in facts


def test_images_are_written_as_csv(images, tmp_path):
    message = answers.write_images(version(), tmp_path / "images.csv")
    assert pd.read_csv(tmp_path / "images.csv")["sha256"].tolist() == CONTENTS
    assert "4711" not in (tmp_path / "images.csv").read_text()
    assert message.startswith("6 images of cxr-ill 1 are in ")
    with pytest.raises(UserError, match=r"images\.csv/images\.csv could not be written"):
        answers.write_images(version(), tmp_path / "images.csv" / "images.csv")
    with pytest.raises(UserError, match="images of cxr-ill 1: its run was deleted, or logged no list"):
        answers.write_images(version(run_id=None), tmp_path / "images.csv")


def test_versions_that_used_an_image_are_listed(images):
    images["run 2"] = USED.iloc[5:]
    versions = [version(3, run_id=None), version(2, run_id="run 2"), version()]
    text = answers.who_used_image(versions, CONTENTS[2])
    assert row(text, 1).endswith("test 1")
    assert row(text, 2).endswith("not used")
    assert row(text, 3).endswith("unknown: its run was deleted, or logged no list of images")
    assert f"1 of 3 versions used the image {CONTENTS[2]}. For 1 it is unknown." in text
    refused = answers.who_used_image([version()], CONTENTS[5])
    assert row(refused, 1).endswith("refused 1")
    assert "0 of 1 versions used" in refused


def test_a_patient_is_found_in_the_splits_of_its_images(images, hashed, key_file):
    text = answers.who_used_patient([version(2), hashed], ["4711"], key_file)
    assert row(text, 1).endswith("train 2")
    assert row(text, 2).endswith("unknown: its patients are not on record")
    assert "1 of 2 versions used the patient 4711. For 1 it is unknown." in text
    text = answers.who_used_patient([hashed], ["13"], key_file)
    assert row(text, 1).endswith("not used; perhaps among 1 images whose patient is unknown")
    images["run 1"] = with_patients(USED, MANIFEST.fillna("p4"), key_file)
    stranger = answers.who_used_patient([hashed], ["13"], key_file)
    assert row(stranger, 1).endswith("not used")
    assert "unknown" not in stranger


def test_another_or_a_missing_key_is_detected(hashed, key_file, monkeypatch):
    monkeypatch.setenv(VARIABLE, "another key, long enough")
    text = answers.who_used_patient([hashed], ["4711"], key_file)
    assert "unknown: hashed with another key (fingerprint" in row(text, 1)
    assert "For 1 it is unknown." in text
    monkeypatch.delenv(VARIABLE)
    key_file.unlink()
    with pytest.raises(UserError, match=f"is missing.*{VARIABLE} .fingerprint {hashed.tags['patient_key']}"):
        answers.who_used_patient([hashed], ["4711"], key_file)
    assert not key_file.exists()


def splits_of(images, key_file, *ids):
    return answers.images_of_patient(images, ids, key_file)["split"].value_counts().to_dict()


def test_patients_are_hashed_together_with_their_source(images, key_file):
    listed = images["run 1"]
    pd.testing.assert_frame_equal(listed[list(USED.columns)], USED)
    assert listed["source"].fillna("-").tolist() == [*MANIFEST["source"], "-"]
    assert listed[PATIENT].isna().tolist() == [False] * 4 + [True, True]
    assert listed[PATIENT][0] == listed[PATIENT][1] != listed[PATIENT][2]
    assert listed[PATIENT].dropna().str.fullmatch("[0-9a-f]{16}").all()
    same_id = with_patients(USED, MANIFEST.assign(patient_id="1"), key_file)
    assert same_id[PATIENT].nunique() == 2
    assert splits_of(same_id, key_file, "1") == {"train": 3, "validation": 1, "test": 1}


@pytest.mark.parametrize(
    ("ids", "splits"),
    [
        (["4711"], {"train": 2}),
        (["p3"], {"validation": 1}),
        (["somebody", "p3"], {"validation": 1}),
        (["00004711"], {"train": 2}),
        (["12"], {"test": 1}),
        (["0012"], {"test": 1}),
        *(([stranger], {}) for stranger in ("3", "p1", "", "0", "nih\x1f4711")),
    ],
)
def test_a_patient_is_found_by_any_id_and_any_number_of_leading_zeros(images, key_file, ids, splits):
    assert splits_of(images["run 1"], key_file, *ids) == splits


def test_an_exact_id_is_preferred_to_other_leading_zeros(key_file):
    ids = pd.Series(["7", "007", "x", "y", "z"], dtype="str")
    images = with_patients(USED, MANIFEST.assign(patient_id=ids, source="nih"), key_file)
    assert answers.images_of_patient(images, ["007"], key_file)["sha256"].tolist() == [CONTENTS[1]]


def test_an_image_is_identified_by_its_content(tmp_path):
    file = tmp_path / "image.png"
    file.write_bytes(b"image")
    digest = hashlib.sha256(b"image").hexdigest()
    assert answers.content_of(str(file)) == answers.content_of(digest.upper()) == digest
    with pytest.raises(UserError, match=r"Cannot read an image at .*nowhere"):
        answers.content_of(str(tmp_path / "nowhere"))


def test_croissant_metadata_has_licences_where_kedro_fetch_left_a_record(images, tmp_path, monkeypatch):
    monkeypatch.setattr(answers.artifacts, "copy_images_of_run", lambda run_id, file: images[run_id].to_parquet(file))
    record = tmp_path / "raw" / "nih" / ".fetched" / "BBox_List_2017.csv.json"
    record.parent.mkdir(parents=True)
    record.touch()
    sources = {"sources.nih.path": "nih", "sources.images.path": "own"}
    file = tmp_path / "x" / "images.json"
    answer = answers.write_croissant(version(parameters=sources), file, tmp_path / "raw")
    assert answer.endswith("because kedro fetch left no record beside their images: images")
    metadata = json.loads(file.read_text("utf-8"))
    assert metadata["citeAs"].startswith("Wang, X.")
    assert "train 3, validation 1, test 1, refused 1" in metadata["description"]
    assert str(tmp_path) not in file.read_text("utf-8")
    assert pd.read_parquet(tmp_path / "x" / metadata["distribution"][0]["contentUrl"]).equals(images["run 1"])


@pytest.mark.parametrize(
    ("run_id", "file", "message"),
    [
        (
            "run 1",
            "images.parquet",
            r"^--croissant: expected the name of a file that ends in \.json or \.jsonld",
        ),
        (None, "images.json", r"^There is no list of the images of cxr-ill 1: its run was deleted"),
    ],
)
def test_croissant_metadata_needs_a_json_file_and_a_list_of_images(tmp_path, run_id, file, message):
    with pytest.raises(UserError, match=message):
        answers.write_croissant(version(run_id=run_id), tmp_path / file, tmp_path)
    assert not list(tmp_path.glob("images.*"))
