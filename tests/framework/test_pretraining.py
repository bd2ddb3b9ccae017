import keras
import mlflow
import pytest
from manifests import images
from shipped import parameters_of
from stub_models import fixed_rule, grey_network, mlflow_file, register

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.images.recipe import Recipe
from cxr_pipeline.data.sources.pseudonyms import key_fingerprint
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
    assert described["n_seen_outside_test"] == 3  # of the first patient and of that of the test image
    assert (described["licence"], described["source"], described["trained_on"]) == ("MIT", "here", ["rsna"])
    (file.parent / "list.txt").write_text("".join(f"{sha256}\n" for sha256 in TEST))
    with pytest.raises(
        UserError, match=r"3 of 3 test images were used to train chest\.weights\.h5, so that ill cannot"
    ):
        describe(folders, file)


@pytest.mark.parametrize(
    ("card", "unlisted"),
    [
        ("{trained_on: [nih]}", ["images"]),
        ("{trained_on: [chexpert]}", []),
        ("{}", ["images"]),
        ("", ["images"]),
        ("{trained_on: [nih], images: other.txt}", ["images"]),  # a list without any image of the source
    ],
)
def test_without_a_list_any_image_of_the_collection_may_have_been_seen(folders, file, card, unlisted):
    (file.parent / f"{file.name}.yml").write_text(card)
    (file.parent / "other.txt").write_text("00000001_000.png\n")
    described = describe(folders, file)
    assert (described["seen"], described["unlisted"]) == ([], unlisted)


def register_with(used, folder, **tags):
    """Register a version that was trained on images."""
    recipe = Recipe(size=32, mode="fit", max_megapixels=1.0)
    run = register(grey_network(32), fixed_rule(), recipe)["run_id"]
    for name, value in tags.items():
        mlflow.MlflowClient().set_model_version_tag("cxr-effusion", "1", name, value)
    if used is not None:
        used.to_parquet(folder / "images.parquet")
        mlflow.MlflowClient().log_artifact(run, str(folder / "images.parquet"), "lineage")


def trained_on(rows, key_file):
    return with_patients(
        images_used(rows, rows[["source", "image"]].assign(split="train"), rows.head(0)), rows, key_file
    )


# Another image of the patient of a test image, which the task does not have.
ELSEWHERE = images(["p4"], start=90)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (MANIFEST.iloc[[0, 7]], r"cxr-effusion/1 was trained on 1 of 3 test images"),
        (MANIFEST.iloc[[6, 8]], r"was trained on 2 of 3 test images, or on other images of their patients"),
        (ELSEWHERE, r"was trained on 1 of 3 test images"),
        (None, "has no list of its images"),
    ],
)
def test_a_version_that_was_trained_on_test_images_stops_the_run(folders, tmp_path, key_file, rows, message):
    folders = folders.model_copy(update={"patient_key": key_file})
    with mlflow_file(tmp_path):
        used = None if rows is None else trained_on(rows, key_file)
        register_with(used, tmp_path, patient_key=key_fingerprint(key_file, make=False))
        with pytest.raises(UserError, match=message):
            describe(folders, "models:/cxr-effusion/1")


def test_the_origin_of_the_weights_of_a_version_and_its_other_images_are_known(folders, tmp_path, key_file):
    folders = folders.model_copy(update={"patient_key": key_file})
    with mlflow_file(tmp_path):
        register_with(trained_on(MANIFEST.head(5), key_file), tmp_path, pretrained_on="rsna,chexpert")
        described = describe(folders, "models:/cxr-effusion/latest")
    assert (described["weights"], described["seen"]) == ("models:/cxr-effusion/1", [])
    assert (described["trained_on"], described["unlisted"]) == (["rsna", "chexpert"], ["images"])
    assert described["n_seen_outside_test"] == 6  # five images, and another of the last patient
