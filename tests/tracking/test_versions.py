import re
import sys
from datetime import datetime
from pathlib import Path

import mlflow
import pytest
from stub_models import fixed_rule, grey_network

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.images.recipe import Recipe
from cxr_pipeline.deployment.classifier import ImageClassifier
from cxr_pipeline.tracking import versions

pytestmark = pytest.mark.parametrize("store", ["file", "server"], indirect=True, scope="module")

SIZE = 32
NAME = "cxr-effusion-demo"
# The second one is longer than a tag can be.
WARNINGS = ["The model has collapsed.", "word " * 1000]
TAG = f"The model has collapsed. {'word ' * 1000}"[:4999] + "…"
RECIPE = Recipe(size=SIZE, mode="fit", max_megapixels=1.0, steps=({"operation": "denoise", "size": 3},))
RULE = fixed_rule(calibration="platt")
PROVENANCE = {"task": "effusion", "images": "phantom", "data_digest": "d" * 64}


@pytest.fixture(scope="module")
def network():
    return grey_network(SIZE)


@pytest.fixture(scope="module")
def registered(network, store, metrics):
    with mlflow.start_run():
        classifier = ImageClassifier(network, RECIPE, RULE, PROVENANCE)
        return versions.register_version(classifier, metrics=metrics, warnings=WARNINGS, tags={"git_commit": "abc"})


def test_a_version_has_the_provenance_of_its_model(registered):
    assert (registered["name"], registered["version"], registered["uri"]) == (NAME, 1, f"models:/{NAME}/1")
    version = mlflow.MlflowClient().get_model_version(NAME, "1")
    assert version.run_id == registered["run_id"]
    assert version.tags == {**PROVENANCE, "digest": registered["digest"], "git_commit": "abc", "warnings": TAG}
    assert "AUC 0.875 on 40 test phantom images; this says nothing about patients" in version.description
    model = mlflow.get_logged_model(version.source.removeprefix("models:/"))
    assert re.fullmatch(rf".+_{SIZE}px", model.name)
    logged = {(metric.key, metric.value, metric.dataset_name, metric.dataset_digest) for metric in model.metrics}
    test_images = ("test images", "f" * 8)
    assert logged == {("test/auc", 0.875, *test_images), ("test/n_images", 40, *test_images)}
    of_run = {"mlflow.note.content": version.description, "version": f"{NAME} 1"}
    assert of_run.items() <= mlflow.get_run(registered["run_id"]).data.tags.items()
    assert "model_card.md" in version.description.partition("\n\nThe model has collapsed.\n\n")[0]
    assert len(version.description) == 5000
    assert registered["git_commit"] == "abc"
    assert (registered["run_url"] is not None) == mlflow.get_tracking_uri().startswith("http")
    datetime.strptime(registered["registered"], "%Y-%m-%d %H:%M:%S UTC")


def test_a_version_has_no_pickles_and_no_tests(registered, tmp_path):
    folder = Path(mlflow.artifacts.download_artifacts(registered["uri"], dst_path=str(tmp_path)))
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
    classifier = {"artifacts/classifier/model.keras", "code/cxr_pipeline/deployment/classifier.py"}
    assert {"serving.py", *classifier} <= names
    assert not [name for name in names if name.endswith((".pkl", ".pickle", ".pyc")) or "__pycache__" in name]
    assert not [name for name in names if "tests" in name.split("/")]
    assert not [entry for entry in sys.path if entry.endswith("/code")], "Registering changed the import path."


def test_the_version_in_use_is_the_champion_or_else_the_newest(registered):
    client = mlflow.MlflowClient()
    client.create_registered_model("cxr-counted")
    for _ in range(11):
        client.create_model_version("cxr-counted", source=registered["uri"])
    version, reason = versions.choose_version("cxr-counted")
    assert (version.uri, reason.partition(",")[0]) == ("models:/cxr-counted/11", "the newest version")
    client.set_registered_model_alias("cxr-counted", "champion", "1")
    version, reason = versions.choose_version("cxr-counted")
    assert (version.uri, reason) == ("models:/cxr-counted/1", "the champion")
    for chosen in (version.uri, "1"):
        assert versions.choose_version("cxr-counted", chosen) == (version, "chosen by its URI")


@pytest.mark.parametrize(("name", "options"), [("cxr-chest", ""), ("cxr-chest-demo", " --env demo")])
def test_a_message_says_how_to_train_the_first_version(name, options):
    with pytest.raises(UserError, match=rf"No version of {name} .*: kedro run{options} --pipeline=chest\.") as raised:
        versions.choose_version(name)
    assert "--model models:/NAME/VERSION with kedro predict" in str(raised.value)
    assert "--params chest.scoring.model=models:/NAME/VERSION with kedro run." in str(raised.value)


def test_a_uri_is_resolved_to_the_version_that_it_points_to_now(registered):
    mlflow.MlflowClient().set_registered_model_alias(NAME, "best", "1")
    expected = versions.ModelVersion(f"models:/{NAME}/1", NAME, 1, registered["run_id"])
    for uri in (f"models:/{NAME}@best", f"models:/{NAME}/latest", expected.uri):
        assert versions.resolve_version(uri) == expected


@pytest.mark.parametrize("uri", ["models:/absent/1", f"models:/{NAME}/99", f"models:/{NAME}@nobody", "models:/a/b/c"])
def test_a_missing_version_is_a_mistake(registered, uri):
    with pytest.raises(UserError, match=f"{uri} .*such as models:/cxr-effusion/1"):
        versions.resolve_version(uri)


@pytest.mark.parametrize("uri", ["runs:/0123456789abcdef/model", "/no/such/folder", None])
def test_a_missing_model_and_one_of_another_project_cannot_be_loaded(tmp_path, uri):
    (tmp_path / "MLmodel").write_text("flavors: {}\n")
    assert versions.resolve_version(uri or str(tmp_path)).version is None
    with pytest.raises(UserError, match=f"No usable model at {uri}" if uri else "another program registered it"):
        versions.load_classifier(uri or str(tmp_path))


def test_an_unavailable_server_is_not_taken_for_a_missing_model(monkeypatch):
    def unavailable(*arguments, **named):
        raise mlflow.MlflowException("API request to http://host failed with exception Connection refused")

    monkeypatch.setattr(mlflow.MlflowClient, "get_model_version", unavailable)
    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", unavailable)
    for function in (versions.resolve_version, versions.load_classifier):
        with pytest.raises(mlflow.MlflowException, match="Connection refused"):
            function("models:/cxr-effusion/1")


@pytest.mark.parametrize("damage", [b"", b"{}", None], ids=["empty", "other content", "missing"])
@pytest.mark.parametrize("file", ["classifier.json", "model.keras"])
def test_a_damaged_file_of_a_version_is_reported(network, tmp_path, monkeypatch, file, damage):
    folder = tmp_path / "artifacts" / "classifier"
    ImageClassifier(network, RECIPE, RULE, PROVENANCE).save(folder)
    (folder / file).unlink() if damage is None else (folder / file).write_bytes(damage)
    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", lambda uri, dst_path: str(tmp_path))
    with pytest.raises(UserError, match=r"^The model models:/cxr-effusion/1 in MLflow .*Restore a copy"):
        versions.load_classifier("models:/cxr-effusion/1")
