import keras
import mlflow
import pytest
from manifests import images
from shipped import parameters_of
from stub_models import fixed_rule, grey_network, mlflow_file, register

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.images.recipe import Recipe
from cxr_pipeline.deployment.data_changes import images_used, with_patients
from cxr_pipeline.framework.config import Folders, Network, Sources
from cxr_pipeline.framework.pretraining import describe_pretraining

MANIFEST = images([f"p{number // 2}" for number in range(12)])
SPLITS = MANIFEST[["source", "image", "sha256", "patient_id"]].assign(split=["train"] * 6 + ["validation", "test"] * 3)
TEST = MANIFEST.loc[[7, 9, 11], "sha256"].tolist()


@pytest.fixture
def folders(tmp_path):
    return Folders(**{name: tmp_path / name for name in Folders.model_fields})


def describe(folders, weights, name="mobilenetv2", layout="nih"):
    network = Network(**{**parameters_of()["model"], "name": name, "weights": str(weights)})
    sources = Sources.model_validate({"images": {"layout": layout, "path": "images"}})
    return describe_pretraining(network, MANIFEST, SPLITS, sources=sources, folders=folders)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "chest.weights.h5"
    keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(32, 32, 3)).save_weights(path)
    return path


@pytest.mark.parametrize(("name", "weights"), [("densenet121", "imagenet"), ("small_cnn", "none")])
def test_weights_that_have_seen_no_chest_images_are_not_described(folders, name, weights):
    assert describe(folders, weights, name) == {}


def test_test_images_in_the_lists_of_a_card_were_seen(folders, file):
    (file.parent / f"{file.name}.yml").write_text("{trained_on: [rsna], images: list.txt, licence: MIT, source: here}")
    (file.parent / "list.txt").write_text("0.png\n6.png\n")  # the second is of the patient of the first test image
    described = describe(folders, file)
    assert (described["seen"], described["unlisted"]) == (TEST[:1], [])
    assert (described["licence"], described["source"], described["trained_on"]) == ("MIT", "here", ["rsna"])
    (file.parent / "list.txt").write_text("".join(f"{sha256}\n" for sha256 in TEST))
    with pytest.raises(UserError, match=r"All 3 test images were used to train .*chest\.weights\.h5"):
        describe(folders, file)


@pytest.mark.parametrize(
    ("card", "unlisted"), [("{trained_on: [nih]}", ["images"]), ("{trained_on: [chexpert]}", []), ("{}", [])]
)
def test_without_a_list_any_image_of_the_collection_may_have_been_seen(folders, file, card, unlisted):
    (file.parent / f"{file.name}.yml").write_text(card)
    described = describe(folders, file)
    assert (described["seen"], described["unlisted"]) == ([], unlisted)


def register_with(used, folder):
    recipe = Recipe(size=32, mode="fit", max_megapixels=1.0)
    run = register(grey_network(32), fixed_rule(), recipe)["run_id"]
    if used is not None:
        used.to_parquet(folder / "images.parquet")
        mlflow.MlflowClient().log_artifact(run, str(folder / "images.parquet"), "lineage")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (MANIFEST.head(6), None),
        (MANIFEST.iloc[[0, 7]], r"cxr-effusion/1 was trained on 1 of 3 test images"),
        (MANIFEST.iloc[[6, 8]], r"was trained on 2 of 3 test images, or on other images of their patients"),
        (None, "has no list of its images"),
    ],
)
def test_a_version_that_was_trained_on_test_images_stops_the_run(folders, tmp_path, key_file, rows, message):
    folders = folders.model_copy(update={"patient_key": key_file})
    with mlflow_file(tmp_path):
        used = None
        if rows is not None:
            assigned = rows[["source", "image"]].assign(split="train")
            used = with_patients(images_used(rows, assigned, rows.head(0)), rows, key_file)
        register_with(used, tmp_path)
        if message:
            with pytest.raises(UserError, match=message):
                describe(folders, "models:/cxr-effusion/1")
        else:
            described = describe(folders, "models:/cxr-effusion/latest")
            assert (described["weights"], described["seen"]) == ("models:/cxr-effusion/1", [])
