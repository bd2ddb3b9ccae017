import cv2
import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from stub_models import fixed_rule

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.images.recipe import Recipe
from cxr_pipeline.deployment.classifier import ImageClassifier
from cxr_pipeline.deployment.heatmaps import map_name
from cxr_pipeline.evaluation.decision_rule import rule_from_dict
from cxr_pipeline.training.networks.build import OUTPUT, POOLED

SIZE = 16

KINDS = {
    "binary": ("nofinding", "bright"),
    "multiclass": ("No Finding", "bright", "dark"),
    "multilabel": ("bright", "dark"),
}


def brightness_classifier(kind, **thresholds):
    """A classifier whose outputs respond to pixels that are brighter, and darker, than the middle grey."""
    classes = KINDS[kind]
    outputs = classes[1:] if kind == "binary" else classes
    image = keras.Input((SIZE, SIZE, 1), name="image")
    seen = keras.layers.Conv2D(2, 1, activation="relu")
    pooled = keras.layers.GlobalAveragePooling2D(name=POOLED)(seen(image))
    activation = "softmax" if kind == "multiclass" else "sigmoid"
    output = keras.layers.Dense(len(outputs), activation=activation, name=OUTPUT)
    network = keras.Model(image, output(pooled))
    seen.set_weights([np.array([[[[1, -1]]]]) / 255, np.array([-128, 128]) / 255])
    dense = np.array([[10 * (name == "bright") for name in outputs], [10 * (name == "dark") for name in outputs]])
    output.set_weights([dense, np.array([-0.25 if name == "No Finding" else -0.5 for name in outputs])])
    rule = fixed_rule(classes, kind).to_dict()
    rule["thresholds"] |= thresholds
    recipe = Recipe(size=SIZE, mode="stretch", max_megapixels=1.0)
    return ImageClassifier(network, recipe, rule_from_dict(rule), {"task": kind})


def patches(path, *, bright, dark):
    """Write a grey image with two squares, each given by row, column and side."""
    image = np.full((4 * SIZE, 4 * SIZE), 128, np.uint8)
    for (row, column, side), grey in ((bright, 255), (dark, 0)):
        image[4 * row : 4 * (row + side), 4 * column : 4 * (column + side)] = grey
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", image)[1].tobytes())


def lit(path):
    """Return the square in which a map has colour: row, column, side."""
    with Image.open(path) as image:
        assert (image.size, image.mode) == ((SIZE, SIZE), "RGB")
        pixels = np.asarray(image).astype(int)
    rows, columns = np.nonzero(np.ptp(pixels, axis=-1) > 8)
    assert len(rows) == (np.ptp(rows) + 1) ** 2 == (np.ptp(columns) + 1) ** 2
    return rows.min(), columns.min(), np.ptp(rows) + 1


MORE_BRIGHT = {"bright": (1, 2, 7), "dark": (10, 11, 4)}
MORE_DARK = {"bright": (1, 2, 4), "dark": (8, 7, 7)}


@pytest.mark.parametrize(
    ("kind", "thresholds", "image", "explained"),
    [
        ("binary", {}, MORE_BRIGHT, "bright"),
        ("binary", {}, MORE_DARK, "bright"),
        ("multiclass", {}, MORE_BRIGHT, "bright"),
        ("multiclass", {}, MORE_DARK, "dark"),
        ("multiclass", {"bright": 1.0}, MORE_BRIGHT, "dark"),
        ("multiclass", {"bright": 1e-7, "dark": 1e-9}, MORE_BRIGHT, "bright"),
        ("multilabel", {}, MORE_BRIGHT, "bright"),
        ("multilabel", {}, MORE_DARK, "dark"),
        ("multilabel", {"bright": 0.9}, MORE_BRIGHT, "dark"),
        ("multilabel", {"bright": 0.25, "dark": 0.3}, MORE_BRIGHT, "bright"),
    ],
)
def test_a_map_explains_the_decision(kind, thresholds, image, explained, folder, score):
    classifier = brightness_classifier(kind, **{"No Finding": 1.0} if kind == "multiclass" else {}, **thresholds)
    patches(folder / "image.png", **image)
    predictions = score(classifier, folder, heatmaps=folder.parent / "maps")
    assert lit(folder.parent / "maps" / "image.png.png") == image[explained]
    outputs = classifier.decision_rule.outputs
    if predictions.decision[0] in outputs:
        assert predictions.decision[0] == explained


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_each_scored_image_has_its_own_map(folder, tmp_path, score, batch_size):
    names = ["a.png", "a.jpg", "ward 1/a.png", "ward 1/two\nlines.png", "Röntgen 肺.png", ".png.png", "z.tif"]
    squares = {name: (place, place + 1, 3) for place, name in enumerate(names)}
    for name, square in squares.items():
        patches(folder / name, bright=square, dark=(13, 13, 1))
    for name in ("b.png", "ward 1/broken.png", "yy.png"):
        (folder / name).write_bytes(b"no image")
    classifier, maps = brightness_classifier("multilabel"), tmp_path / "out" / "maps"
    predictions = score(classifier, folder, batch_size=batch_size, heatmaps=maps)
    without = score(classifier, folder, batch_size=batch_size, scored_by="another")
    pd.testing.assert_frame_equal(predictions, without)
    scored = predictions.loc[predictions.status == "scored", "image"].tolist()
    assert len(scored) == len(predictions) - 3 == len(names) - 1
    drawn = {path.relative_to(maps).as_posix() for path in maps.rglob("*") if path.is_file()}
    assert drawn == {f"{image}.png" for image in scored}
    for image in scored:
        assert lit(maps / f"{image}.png") == squares[image]


@pytest.mark.parametrize(
    "name", [300 * "x", 120 * "肺", "/".join([100 * "ward "] * 20) + "/image", 100 * r"\xff", "two\nlines"]
)
def test_names_of_maps_are_valid_file_names(name, tmp_path):
    path = tmp_path / map_name(f"{name}.png")
    assert all(len(part.encode()) <= 240 for part in map_name(f"{name}.png").split("/"))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    assert map_name(f"{name}.png") != map_name(f"{name}2.png")
    assert path.suffix == ".png"


def test_maps_that_cannot_be_written_stop_the_run_but_an_impossible_name_is_logged(folder, tmp_path, score, caplog):
    patches(folder / "a.png", **MORE_BRIGHT)
    patches(folder / "a.png.png" / "b.png", **MORE_BRIGHT)
    patches(folder / "c.png", **MORE_BRIGHT)
    predictions = score(brightness_classifier("binary"), folder, heatmaps=tmp_path / "maps")
    assert (predictions.status == "scored").all()
    assert "a.png.png/b.png" in caplog.text
    assert sorted(path.name for path in (tmp_path / "maps").iterdir()) == ["a.png.png", "c.png.png"]
    (tmp_path / "out").write_text("a file")
    with pytest.raises(UserError, match="out/maps"):
        score(brightness_classifier("binary"), folder, heatmaps=tmp_path / "out" / "maps")


def test_maps_follow_images_that_change_go_or_stay(folder, tmp_path, score):
    for name in ("kept.png", "refused.png", "changed.png", "ward/gone.png", "ward/without_map.png"):
        patches(folder / name, **MORE_BRIGHT)
    maps = tmp_path / "maps"
    score(brightness_classifier("binary"), folder, heatmaps=maps)
    (maps / "kept.png.png").write_bytes(b"the earlier map")
    (maps / "ward" / "without_map.png.png").unlink()
    (folder / "ward" / "gone.png").unlink()
    (folder / "refused.png").write_bytes(b"")
    patches(folder / "changed.png", **MORE_DARK)
    score(brightness_classifier("binary"), folder, heatmaps=maps)
    assert (maps / "kept.png.png").read_bytes() == b"the earlier map"
    found = sorted(path.name for path in maps.rglob("*.png"))
    assert found == ["changed.png.png", "kept.png.png", "without_map.png.png"]
    assert lit(maps / "changed.png.png") == MORE_DARK["bright"]
    assert lit(maps / "ward" / "without_map.png.png") == MORE_BRIGHT["bright"]


def test_maps_of_another_model_are_removed(folder, tmp_path, score, monkeypatch):
    patches(folder / "a.png", **MORE_BRIGHT)
    patches(folder / "b.png", **MORE_BRIGHT)
    maps = tmp_path / "maps"
    score_batch, batches = ImageClassifier.score_batch, []

    def fail_in_the_middle(*arguments):
        batches.append(1)
        if len(batches) == 4:
            raise RuntimeError("killed")
        return score_batch(*arguments)

    monkeypatch.setattr(ImageClassifier, "score_batch", fail_in_the_middle)
    score(brightness_classifier("binary"), folder, heatmaps=maps, scored_by="1", batch_size=1)
    with pytest.raises(RuntimeError):
        score(brightness_classifier("binary"), folder, heatmaps=maps, scored_by="2", batch_size=1)
    assert [path.name for path in maps.iterdir()] == ["a.png.png"]
    (maps / "a.png.png").write_bytes(b"a map by 2")
    score(brightness_classifier("binary"), folder, heatmaps=maps, scored_by="1", batch_size=1)
    assert lit(maps / "a.png.png") == lit(maps / "b.png.png") == MORE_BRIGHT["bright"]
