import json
import sys
from pathlib import Path
from typing import Any

import cv2
import keras
import mlflow
import numpy as np
import pytest

from cxr_pipeline import tracking
from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.images.recipe import Recipe
from cxr_pipeline.evaluation.decision_rule import DecisionRule, fit_decision_rule
from cxr_pipeline.training.networks.build import build_model

on_both = pytest.mark.parametrize("store", ["file", "server"], indirect=True, scope="module")

SIZE = 32
METRICS = {
    "task": "effusion",
    "kind": "binary",
    "split": "test",
    "n_images": 40,
    "n_patients": None,
    "prevalence": 0.25,
    "thresholds": {"effusion": 0.375},
    "metrics": {
        "auc": {"value": 0.875, "low": 0.75, "high": 0.9375},
        "precision": {"value": None, "low": None, "high": None},
    },
    "per_class": {"effusion": {"f1": {"value": 0.5, "low": 0.25, "high": float("nan")}}},
}


@pytest.fixture(scope="module")
def network() -> keras.Model:
    return build_model(
        name="small_cnn", weights_file=None, size=SIZE, n_outputs=1, exclusive=False, head_units=4, dropout=0.1, seed=1
    )


@pytest.fixture(scope="module")
def decision_rule() -> DecisionRule:
    rng = np.random.default_rng(2)
    y_true = np.arange(40).reshape(-1, 1) % 2
    return fit_decision_rule(
        y_true,
        np.clip(y_true * 0.3 + rng.uniform(0.1, 0.6, (40, 1)), 0, 1),
        kind="binary",
        classes=("nofinding", "effusion"),
        calibration="platt",
        policy={"rule": "youden"},
    )


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return Recipe(size=SIZE, mode="fit", max_megapixels=1.0, steps=({"operation": "denoise", "size": 3},))


@pytest.fixture(scope="module")
def registered(network: keras.Model, recipe: Recipe, decision_rule: DecisionRule, store: Path) -> dict[str, Any]:
    with mlflow.start_run():
        return tracking.register_version(
            task="effusion",
            phantom=True,
            model=network,
            recipe=recipe,
            decision_rule=decision_rule,
            metrics=METRICS,
            data_digest="d" * 64,
            example=np.tile(np.arange(SIZE, dtype=np.uint8), (SIZE, 1)),
            tags={"git_commit": "abc", "kedro_pipeline": "effusion"},
        )


def images() -> list[bytes]:
    rng = np.random.default_rng(3)
    return [cv2.imencode(".png", rng.integers(0, 256, (50, 40), np.uint8))[1].tobytes() for _ in range(3)]


@on_both
def test_a_version_carries_what_tells_it_from_others(registered: dict[str, Any]) -> None:
    assert json.loads(json.dumps(registered)) == registered
    assert (registered["name"], registered["version"]) == ("cxr-effusion-demo", 1)
    assert registered["uri"] == "models:/cxr-effusion-demo/1"
    version = mlflow.MlflowClient().get_model_version("cxr-effusion-demo", "1")
    assert version.run_id == registered["run_id"]
    assert version.tags == {
        "task": "effusion",
        "images": "phantom",
        "data_digest": "d" * 64,
        "digest": registered["digest"],
        "git_commit": "abc",
        "kedro_pipeline": "effusion",
    }
    assert "AUC 0.875 on 40 test phantom images; this says nothing about patients" in version.description
    assert "model_card.md, an artifact of the run that registered this version" in version.description


@on_both
def test_nothing_is_pickled_and_the_code_comes_along_clean(registered: dict[str, Any], tmp_path: Path) -> None:
    folder = Path(mlflow.artifacts.download_artifacts(registered["uri"], dst_path=str(tmp_path)))
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
    assert {"serving.py", "artifacts/classifier/model.keras", "code/cxr_pipeline/deployment/classifier.py"} <= names
    assert not [name for name in names if name.endswith((".pkl", ".pickle", ".pyc")) or "__pycache__" in name]
    assert not [name for name in names if "tests" in name.split("/")]


def test_registering_leaves_the_import_path_alone(registered: dict[str, Any]) -> None:
    assert not [entry for entry in sys.path if entry.endswith("/code")]


@on_both
def test_what_is_loaded_scores_as_what_was_registered(
    network: keras.Model, recipe: Recipe, decision_rule: DecisionRule, registered: dict[str, Any]
) -> None:
    loaded = tracking.load_classifier(registered["uri"])
    expected = decision_rule.apply(
        network.predict(np.stack([recipe.prepare(image) for image in images()])[..., np.newaxis], verbose=0)
    )
    judged = loaded.score(images())
    np.testing.assert_allclose(judged[["probability"]], expected.probability, atol=1e-6)
    assert judged.decision.tolist() == expected.decision.tolist()
    assert loaded.digest == registered["digest"]
    assert loaded.provenance == {"task": "effusion", "images": "phantom", "data_digest": "d" * 64}


def several_classes(kind: str, recipe: Recipe, policy: str) -> dict[str, Any]:
    """Register an untrained network of three classes."""
    classes = ("No Finding", "Pleural_Thickening", "Mass")
    exclusive = kind == "multiclass"
    network = build_model(
        name="small_cnn",
        weights_file=None,
        size=SIZE,
        n_outputs=3,
        exclusive=exclusive,
        head_units=0,
        dropout=0,
        seed=2,
    )
    y_score = np.random.default_rng(4).dirichlet([1, 1, 1], 60)
    y_true = np.eye(3)[np.arange(60) % 3]
    policy = {"rule": policy}
    rule = fit_decision_rule(y_true, y_score, kind=kind, classes=classes, calibration="temperature", policy=policy)
    with mlflow.start_run():
        version = tracking.register_version(
            task=kind,
            phantom=False,
            model=network,
            recipe=recipe,
            decision_rule=rule,
            metrics={**METRICS, "thresholds": rule.thresholds},
            data_digest="d" * 64,
            example=np.tile(np.arange(SIZE, dtype=np.uint8), (SIZE, 1)),
            tags={},
        )
    return {"version": version, "network": network, "rule": rule}


@pytest.mark.parametrize(
    ("kind", "policy"), [("multiclass", "argmax"), ("multiclass", "youden"), ("multilabel", "youden")]
)
def test_a_model_of_several_classes_comes_back_as_it_was(kind: str, policy: str, recipe: Recipe) -> None:
    made = several_classes(kind, recipe, policy)
    loaded = tracking.load_classifier(made["version"]["uri"])
    assert loaded.digest == made["version"]["digest"]
    assert loaded.decision_rule.to_dict() == made["rule"].to_dict()
    y_score = made["network"].predict(
        np.stack([recipe.prepare(image) for image in images()])[..., np.newaxis], verbose=0
    )
    expected, judged = made["rule"].apply(y_score), loaded.score(images())
    columns = [f"probability_{name}" for name in made["rule"].outputs]
    np.testing.assert_allclose(judged[columns], expected.probability, atol=1e-6)
    assert judged.decision.tolist() == expected.decision.tolist()
    signature = mlflow.models.get_model_info(made["version"]["uri"]).signature
    assert signature.outputs.input_names() == [*judged.columns, "heatmap"]


@on_both
def test_the_newest_version_is_the_one_with_the_largest_number(registered: dict[str, Any]) -> None:
    client = mlflow.MlflowClient()
    client.create_registered_model("cxr-counted")
    for _ in range(11):
        client.create_model_version("cxr-counted", source=registered["uri"])
    assert tracking.newest_version("cxr-counted") == "models:/cxr-counted/11"
    assert tracking.newest_version("cxr-effusion-demo") == "models:/cxr-effusion-demo/1"


@on_both
def test_the_version_in_use_is_the_champion_or_else_the_newest(registered: dict[str, Any]) -> None:
    name = registered["name"]
    assert tracking.version_in_use(name) == tracking.newest_version(name)
    client = mlflow.MlflowClient()
    client.set_registered_model_alias(name, "champion", str(registered["version"]))
    try:
        assert tracking.version_in_use(name) == f"models:/{name}@champion"
    finally:
        client.delete_registered_model_alias(name, "champion")
    with pytest.raises(UserError, match="No version of cxr-none is registered"):
        tracking.version_in_use("cxr-none")


@pytest.mark.parametrize(
    ("phantom", "command"),
    [(False, "kedro run --pipeline=chest"), (True, "kedro run --env demo --pipeline=chest")],
)
def test_without_a_version_the_user_is_told_how_to_make_one(phantom: bool, command: str) -> None:
    name = tracking.model_name("chest", phantom=phantom)
    with pytest.raises(UserError, match=f"No version of {name} .*: {command};") as raised:
        tracking.newest_version(name)
    assert "--params chest.scoring.model=models:/NAME/VERSION" in str(raised.value)


@on_both
def test_an_alias_is_resolved_to_the_version_it_means_now(registered: dict[str, Any]) -> None:
    mlflow.MlflowClient().set_registered_model_alias("cxr-effusion-demo", "champion", "1")
    expected = tracking.ModelVersion("models:/cxr-effusion-demo/1", "cxr-effusion-demo", 1, registered["run_id"])
    for uri in ("models:/cxr-effusion-demo@champion", "models:/cxr-effusion-demo/latest", expected.uri):
        assert tracking.resolve_version(uri) == expected


@on_both
@pytest.mark.parametrize(
    "uri", ["models:/absent/1", "models:/cxr-effusion-demo/99", "models:/cxr-effusion-demo@nobody", "models:/a/b/c"]
)
def test_a_version_that_is_not_there_is_a_mistake(registered: dict[str, Any], uri: str) -> None:
    with pytest.raises(UserError, match=f"{uri} .*such as models:/cxr-effusion/1"):
        tracking.resolve_version(uri)


@pytest.mark.parametrize("uri", ["runs:/0123456789abcdef/model", "/no/such/folder"])
def test_what_is_no_model_cannot_be_loaded(uri: str) -> None:
    assert tracking.resolve_version(uri).version is None
    with pytest.raises(UserError, match=f"No usable model at {uri}"):
        tracking.load_classifier(uri)


def test_a_server_that_is_away_is_not_taken_for_a_model_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*arguments: object, **named: object) -> None:
        raise mlflow.MlflowException("API request to http://host failed with exception Connection refused")

    monkeypatch.setattr(mlflow.MlflowClient, "get_model_version", away)
    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", away)
    for ask in (tracking.resolve_version, tracking.load_classifier):
        with pytest.raises(mlflow.MlflowException, match="Connection refused"):
            ask("models:/cxr-effusion/1")


def test_a_model_of_another_project_cannot_be_loaded(tmp_path: Path) -> None:
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "MLmodel").write_text("flavors: {}\n")
    with pytest.raises(UserError, match="not registered by this project"):
        tracking.load_classifier(str(tmp_path / "foreign"))
