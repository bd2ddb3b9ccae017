import cv2
import numpy as np
import pandas as pd
import pytest

from cxr_pipeline import load_classifier
from cxr_pipeline.common.errors import ImageRefused, UserError
from cxr_pipeline.data.images.recipe import Recipe
from cxr_pipeline.deployment.classifier import output_columns
from cxr_pipeline.framework.commands.predict import describe
from cxr_pipeline.framework.prediction import FileClassifier
from cxr_pipeline.tracking.versions import ModelVersion

RECIPE = Recipe(size=16, mode="fit", max_megapixels=1)


def test_predictions_are_those_of_the_evaluation(demo, kedro):
    scores = pd.read_parquet(demo.folder / "data/demo/07_model_output/effusion/test_scores.parquet").head(3)
    manifest = pd.read_parquet(demo.folder / "data/demo/03_primary/effusion/manifest.parquet")
    (raw,) = demo.folder.glob("data/demo/01_raw/*/images")
    paths = manifest.set_index("image").loc[scores["image"], "path"]
    files = [str(raw.parent / path) for path in paths]
    shown = kedro(demo.folder, "predict", "effusion", "--env", "demo", *files, "pyproject.toml")
    assert shown.returncode == 1, shown.stdout
    lines = [line for line in shown.stdout.splitlines() if line.startswith(str(raw))]
    for line, probability, decision in zip(lines, scores["probability_effusion"], scores["decision"], strict=True):
        assert f"{decision}  " in line
        assert f"{probability:.3f}" in line
    (refused,) = (line for line in shown.stdout.splitlines() if line.startswith("pyproject.toml"))
    assert refused.endswith("found a text file")
    assert "trained on phantoms" in shown.stdout

    classifier = load_classifier("effusion", env="demo", project=demo.folder)
    np.testing.assert_allclose(classifier.predict(*files)["probability"], scores["probability_effusion"], atol=1e-6)
    assert classifier.version.name == "cxr-effusion-demo"
    with pytest.raises(UserError, match=r"The configuration has no task efusion\. Expected one of effusion, pneumonia"):
        load_classifier("efusion", project=demo.folder)
    with pytest.raises(UserError, match=r"Leave out --env demo for a task in conf/local\.$"):
        load_classifier("efusion", env="demo", project=demo.folder)
    folder = kedro(demo.folder, "predict", "effusion", str(raw))
    assert "kedro run --pipeline=effusion_scoring --params effusion.scoring.folder=" in folder.stdout


def test_a_folder_without_a_project_is_named(tmp_path):
    with pytest.raises(UserError, match=f"{tmp_path} is not a project"):
        load_classifier("effusion", project=tmp_path)


class Classifier:
    """Scores an image by its mean grey, for one or two outputs."""

    def __init__(self, recipe, *outputs):
        self.recipe, self.decision_rule, self.provenance = recipe, self, {"images": "real"}
        self.outputs = outputs

    def score_batch(self, prepared):
        refused = [isinstance(image, ImageRefused) for image in prepared]
        table = pd.DataFrame({"decision": ["yes"] * len(prepared), "status": np.where(refused, "refused", "scored")})
        table["reason"] = [image.reason if isinstance(image, ImageRefused) else None for image in prepared]
        means = [np.nan if isinstance(image, ImageRefused) else float(np.mean(image)) / 255 for image in prepared]
        for name in output_columns("probability", self.outputs):
            table[name] = means
        for name in output_columns("threshold", self.outputs):
            table[name] = 0.5
        return table


@pytest.mark.parametrize("outputs", [("Mass",), ("Mass", "Edema")])
def test_files_are_scored_in_order_and_refusals_are_explained(outputs, tmp_path):
    for number in range(40):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.random.default_rng(number).integers(0, 256, (20, 20), np.uint8))
    (tmp_path / "7.png").write_bytes(b"damaged")
    classifier = FileClassifier(ModelVersion("models:/m/1"), "the champion", Classifier(RECIPE, *outputs), None)
    files = [tmp_path / f"{number}.png" for number in range(40)]
    predictions = classifier.predict(*files)
    assert predictions["image"].tolist() == [str(file) for file in files]
    alone = [classifier.predict(file).iloc[0] for file in (files[3], files[35])]
    name = output_columns("probability", outputs)[0]
    assert [row[name] for row in alone] == predictions.loc[[3, 35], name].tolist()
    assert predictions["detail"].notna().tolist() == [number == 7 for number in range(40)]

    text = describe(classifier, predictions.iloc[6:8])
    rows = text.splitlines()[3:]
    assert rows[0].startswith(f"{tmp_path}/6.png  yes")
    assert "7.png  refused" in rows[len(outputs)]
    assert "unreadable: expected PNG" in rows[len(outputs)]
    assert ("Edema" in text) == (len(outputs) == 2)
    assert text.endswith("Do not use it to make decisions about a patient.")


def test_no_images_are_no_rows():
    classifier = FileClassifier(ModelVersion("models:/m/1"), "the champion", Classifier(RECIPE, "Mass"), None)
    assert classifier.predict().empty
