import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cxr_pipeline.classifier import FilmClassifier
from cxr_pipeline.decision_rule import fit_decision_rule, rule_from_dict
from cxr_pipeline.errors import UserError
from cxr_pipeline.images.recipe import Recipe
from cxr_pipeline.models.heads import OUTPUT, POOLED
from cxr_pipeline.scoring import FILM_SUFFIXES, check_classes, find_films, score_folder, summarise

SIZE = 16
KEY = "effusion.scoring.folder"

Draw = Callable[..., Path]


@pytest.fixture(scope="module")
def classifier() -> FilmClassifier:
    """A classifier whose score is known without it: the mean grey of the film, as a fraction of white."""
    film = keras.Input((SIZE, SIZE, 1), name="film")
    mean = keras.layers.GlobalAveragePooling2D()(film)
    score = keras.layers.Dense(1, use_bias=False, kernel_initializer=keras.initializers.Constant(1 / 255))(mean)
    rule = fit_decision_rule(
        [[0], [1]],
        [[0.2], [0.8]],
        kind="binary",
        classes=("nofinding", "effusion"),
        calibration="none",
        policy={"rule": "fixed", "value": 0.5},
    )
    recipe = Recipe(size=SIZE, mode="stretch", max_megapixels=1.0)
    return FilmClassifier(keras.Model(film, score), recipe, rule, {"task": "effusion", "films": "real"})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "new"


@pytest.fixture
def draw(folder: Path) -> Draw:
    """Write a film of two halves, whose mean is ``grey``."""

    def draw_film(name: str | bytes, grey: int = 51, *, below: Path = folder) -> Path:
        path = below / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        film = np.full((64, 64), grey - 10, np.uint8)
        film[:, 32:] = grey + 10
        path.write_bytes(cv2.imencode(".png", film)[1].tobytes())
        return path

    return draw_film


def score(
    classifier: FilmClassifier, folder: Path, *, batch_size: int = 2, heatmaps: Path | None = None
) -> pd.DataFrame:
    root, films = find_films(str(folder), key=KEY)
    return score_folder(classifier, root, films, batch_size=batch_size, heatmaps=heatmaps)


def test_every_film_below_the_folder_is_found_in_the_same_order(folder: Path, draw: Draw) -> None:
    names = ["b.png", "a.JPG", "ward 1/c.jpeg", "ward 1/deep/er/d.TIFF", "e.tif", "f.bmp", "g.WebP", "h.DCM", "i.dicom"]
    for name in names:
        draw(name)
    for name in ["notes.txt", "report.pdf", ".hidden.png", ".cache/h.png", "png"]:
        draw(name)
    root, films = find_films(str(folder), key=KEY)
    assert [film.relative_to(root).as_posix() for film in films] == sorted(names)
    assert {film.suffix.lower() for film in films} == set(FILM_SUFFIXES)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (None, "effusion.scoring.folder is null"),
        ("", "effusion.scoring.folder is null"),
        ("absent", "found nothing at .*absent"),
        ("new/film.png", r"found a file at .*film\.png"),
        ("without", r"No film is below .*without .*\.png"),
    ],
)
def test_a_folder_without_films_is_a_mistake(
    tmp_path: Path, draw: Draw, monkeypatch: pytest.MonkeyPatch, given: str | None, found: str
) -> None:
    draw("film.png")
    draw("notes.txt", below=tmp_path / "without")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=found) as raised:
        find_films(given, key=KEY)
    assert "--params effusion.scoring.folder=DIR" in str(raised.value)


def test_films_of_the_home_folder_are_found(folder: Path, draw: Draw, monkeypatch: pytest.MonkeyPatch) -> None:
    film = draw("film.png")
    monkeypatch.setenv("HOME", str(folder.parent))
    assert find_films("~/new", key=KEY) == (folder, [film])


def test_predictions_have_a_row_per_film(classifier: FilmClassifier, folder: Path, draw: Draw) -> None:
    draw("dim.png", 51)
    draw("ward/bright.png", 204)
    draw("broken.png").write_bytes(b"no film")
    predictions = score(classifier, folder)
    assert predictions.columns.tolist() == ["image", "probability", "decision", "status", "reason"]
    assert predictions.image.tolist() == ["broken.png", "dim.png", "ward/bright.png"]
    np.testing.assert_allclose(predictions.probability, [np.nan, 0.2, 0.8], atol=1e-6)
    assert predictions.decision.fillna("").tolist() == ["", "nofinding", "effusion"]
    assert predictions.status.tolist() == ["refused", "scored", "scored"]
    assert predictions.reason.fillna("").tolist() == ["unreadable", "", ""]


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_batches_change_nothing(classifier: FilmClassifier, folder: Path, draw: Draw, batch_size: int) -> None:
    greys = np.linspace(20, 230, 7).astype(int)
    for grey in greys:
        draw(f"{grey:03}.png", grey)
    predictions = score(classifier, folder, batch_size=batch_size)
    np.testing.assert_allclose(predictions.probability, greys / 255, atol=1e-6)


def test_a_link_that_leaves_the_folder_is_refused(
    classifier: FilmClassifier, tmp_path: Path, folder: Path, draw: Draw
) -> None:
    secret = draw("secret.png", below=tmp_path / "elsewhere")
    inside = draw("inside.png")
    (folder / "film.png").symlink_to(secret)
    (folder / "up.png").symlink_to("../elsewhere/secret.png")
    (folder / "ward").symlink_to(secret.parent)
    (folder / "again.png").symlink_to(inside.name)
    (folder / "loop").symlink_to(".")
    predictions = score(classifier, folder).set_index("image")
    assert predictions.index.tolist() == ["again.png", "film.png", "inside.png", "up.png", "ward"]
    assert predictions.status.tolist() == ["scored", "refused", "scored", "refused", "refused"]
    assert predictions.reason.dropna().unique().tolist() == ["outside_source"]


def test_what_is_no_file_is_refused_without_waiting_for_it(
    classifier: FilmClassifier, folder: Path, draw: Draw
) -> None:
    draw("film.png")
    os.mkfifo(folder / "pipe.png")
    (folder / "nowhere.png").symlink_to("absent.png")
    (folder / "self.png").symlink_to("self.png")
    predictions = score(classifier, folder)
    assert predictions.image.tolist() == ["film.png", "nowhere.png", "pipe.png", "self.png"]
    assert predictions.reason.fillna("").tolist() == ["", "unreadable", "unreadable", "unreadable"]


def test_a_folder_that_cannot_be_read_is_refused_by_name(
    classifier: FilmClassifier, folder: Path, draw: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw("film.png")
    draw("locked/film.png")
    scan = os.scandir

    def scan_all_but_one(path: str) -> object:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", scan_all_but_one)
    predictions = score(classifier, folder)
    assert predictions.image.tolist() == ["film.png", "locked"]
    assert predictions.reason.fillna("").tolist() == ["", "unreadable"]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("with space.png", "with space.png"),
        ("-rf.png", "-rf.png"),
        ("two\nlines.png", "two\nlines.png"),
        ("carriage\rreturn.png", "carriage\rreturn.png"),
        ('quote",comma.png', 'quote",comma.png'),
        ("Röntgen 肺 лёгкое.png", "Röntgen 肺 лёгкое.png"),
        (b"\xff\xfe.png", r"\xff\xfe.png"),
        ("$(touch x);.png", "$(touch x);.png"),
        ("back\\slash.png", "back\\slash.png"),
    ],
)
def test_hostile_names_are_names(
    classifier: FilmClassifier, tmp_path: Path, folder: Path, draw: Draw, name: str | bytes, shown: str
) -> None:
    draw(name, 204)
    predictions = score(classifier, folder)
    assert predictions.image.tolist() == [shown]
    assert predictions.status.tolist() == ["scored"]
    predictions.to_parquet(tmp_path / "predictions.parquet")
    assert pd.read_parquet(tmp_path / "predictions.parquet").image.tolist() == [shown]


def test_memory_does_not_grow_with_the_number_of_films(folder: Path, draw: Draw, classifier: FilmClassifier) -> None:
    for number in range(40):
        draw(f"{number}.png")
    waiting, most = [], []

    class CountingRecipe(Recipe):
        def prepare(self, content: bytes) -> np.ndarray:
            waiting.append(1)
            return super().prepare(content)

    class CountingNetwork:
        def predict_on_batch(self, films: np.ndarray) -> np.ndarray:
            most.append(len(waiting))
            del waiting[: len(films)]
            return np.asarray(classifier.model.predict_on_batch(films))

    recipe = CountingRecipe(size=SIZE, mode="stretch", max_megapixels=1.0)
    counted = replace(classifier, model=CountingNetwork(), recipe=recipe)
    predictions = score(counted, folder, batch_size=4)
    assert (predictions.status == "scored").all()
    assert len(most) == 10
    assert max(most) <= 4 * 4


def test_predictions_of_a_model_trained_on_phantoms_say_so(
    classifier: FilmClassifier, folder: Path, draw: Draw, caplog: pytest.LogCaptureFixture
) -> None:
    draw("film.png")
    score(classifier, folder)
    assert not caplog.messages
    score(replace(classifier, provenance={"films": "phantom"}), folder)
    assert "phantoms" in caplog.text


def test_a_classifier_of_another_task_is_a_mistake(classifier: FilmClassifier) -> None:
    check_classes(classifier, "binary", ("nofinding", "effusion"), key="effusion.scoring.model")
    with pytest.raises(UserError, match=r"effusion\.scoring\.model decides between nofinding, effusion .*pneumonia"):
        check_classes(classifier, "binary", ("normal", "pneumonia"), key="effusion.scoring.model")
    with pytest.raises(UserError, match=r"\(binary\); expected .* \(multilabel\)"):
        check_classes(classifier, "multilabel", ("nofinding", "effusion"), key="effusion.scoring.model")


def test_the_record_counts_films_and_says_what_scored_them(
    classifier: FilmClassifier, folder: Path, draw: Draw
) -> None:
    draw("dim.png", 51)
    draw("bright.png", 204)
    draw("brighter.png", 230)
    draw("empty.png").write_bytes(b"")
    record = json.loads(json.dumps(summarise(score(classifier, folder), classifier), allow_nan=False))
    assert record == {
        "digest": classifier.digest,
        "recipe": classifier.recipe.digest,
        "classes": ["nofinding", "effusion"],
        "thresholds": {"effusion": 0.5},
        "provenance": {"task": "effusion", "films": "real"},
        "n_films": 4,
        "n_scored": 3,
        "decisions": {"nofinding": 1, "effusion": 2},
        "refused": {"empty": 1},
    }


KINDS = {
    "binary": ("nofinding", "bright"),
    "multiclass": ("No Finding", "bright", "dark"),
    "multilabel": ("bright", "dark"),
}


def looking(kind: str, **thresholds: float) -> FilmClassifier:
    """A classifier whose outputs look at what is brighter than the middle grey, and at what is darker."""
    classes = KINDS[kind]
    outputs = classes[1:] if kind == "binary" else classes
    film = keras.Input((SIZE, SIZE, 1), name="film")
    seen = keras.layers.Conv2D(2, 1, activation="relu")
    pooled = keras.layers.GlobalAveragePooling2D(name=POOLED)(seen(film))
    activation = "softmax" if kind == "multiclass" else "sigmoid"
    output = keras.layers.Dense(len(outputs), activation=activation, name=OUTPUT)
    network = keras.Model(film, output(pooled))
    seen.set_weights([np.array([[[[1, -1]]]]) / 255, np.array([-128, 128]) / 255])
    looks = np.array([[10 * (name == "bright") for name in outputs], [10 * (name == "dark") for name in outputs]])
    output.set_weights([looks, np.array([-0.25 if name == "No Finding" else -0.5 for name in outputs])])
    labels = np.eye(2, len(outputs))
    policy = {"rule": "fixed", "value": 0.5}
    rule = fit_decision_rule(labels, labels, kind=kind, classes=classes, calibration="none", policy=policy).to_dict()
    rule["thresholds"] |= thresholds
    recipe = Recipe(size=SIZE, mode="stretch", max_megapixels=1.0)
    return FilmClassifier(network, recipe, rule_from_dict(rule), {"task": kind})


def patches(path: Path, *, bright: tuple[int, int, int], dark: tuple[int, int, int]) -> None:
    """Write a grey film with two squares, each given by its row, its column and its side."""
    film = np.full((4 * SIZE, 4 * SIZE), 128, np.uint8)
    for (row, column, side), grey in ((bright, 255), (dark, 0)):
        film[4 * row : 4 * (row + side), 4 * column : 4 * (column + side)] = grey
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", film)[1].tobytes())


def lit(path: Path) -> tuple[int, int, int]:
    """The square in which a map has colour: row, column, side."""
    with Image.open(path) as image:
        assert (image.size, image.mode) == ((SIZE, SIZE), "RGB")
        pixels = np.asarray(image).astype(int)
    rows, columns = np.nonzero(np.ptp(pixels, axis=-1) > 8)
    assert len(rows) == (np.ptp(rows) + 1) ** 2 == (np.ptp(columns) + 1) ** 2
    return rows.min(), columns.min(), np.ptp(rows) + 1


MORE_BRIGHT = {"bright": (1, 2, 7), "dark": (10, 11, 4)}
MORE_DARK = {"bright": (1, 2, 4), "dark": (8, 7, 7)}


@pytest.mark.parametrize(
    ("kind", "thresholds", "film", "asked"),
    [
        ("binary", {}, MORE_BRIGHT, "bright"),
        ("binary", {}, MORE_DARK, "bright"),
        ("binary", {"bright": 1.0}, MORE_BRIGHT, "bright"),
        ("multiclass", {}, MORE_BRIGHT, "bright"),
        ("multiclass", {}, MORE_DARK, "dark"),
        ("multiclass", {"bright": 1.0}, MORE_BRIGHT, "dark"),
        ("multiclass", {"dark": 0.0}, MORE_BRIGHT, "dark"),
        ("multiclass", {"bright": 1e-7, "dark": 1e-9}, MORE_BRIGHT, "bright"),
        ("multilabel", {}, MORE_BRIGHT, "bright"),
        ("multilabel", {}, MORE_DARK, "dark"),
        ("multilabel", {"bright": 0.9}, MORE_BRIGHT, "dark"),
        ("multilabel", {"bright": 0.25, "dark": 0.3}, MORE_BRIGHT, "bright"),
        ("multilabel", {"bright": 0.4, "dark": 0.0}, MORE_BRIGHT, "dark"),
    ],
)
def test_a_map_shows_what_speaks_for_the_decision(
    kind: str, thresholds: dict[str, float], film: dict[str, tuple[int, int, int]], asked: str, folder: Path
) -> None:
    classifier = looking(kind, **{"No Finding": 1.0} if kind == "multiclass" else {}, **thresholds)
    patches(folder / "film.png", **film)
    predictions = score(classifier, folder, heatmaps=folder.parent / "maps")
    assert lit(folder.parent / "maps" / "film.png.png") == film[asked]
    outputs = classifier.decision_rule.outputs
    if predictions.decision[0] in outputs:
        assert predictions.decision[0] == asked


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
def test_each_scored_film_has_its_own_map(folder: Path, tmp_path: Path, batch_size: int) -> None:
    names = [
        "a.png",
        "a.jpg",
        "ward 1/a.png",
        "ward 1/two\nlines.png",
        "Röntgen 肺.png",
        "-rf.png",
        ".png.png",
        "z.tif",
    ]
    squares = {name: (place, place + 1, 3) for place, name in enumerate(names)}
    for name, square in squares.items():
        patches(folder / name, bright=square, dark=(13, 13, 1))
    for name in ("b.png", "ward 1/broken.png", "yy.png"):
        (folder / name).write_bytes(b"no film")
    predictions = score(looking("multilabel"), folder, batch_size=batch_size, heatmaps=tmp_path / "out" / "maps")
    drawn = [path for path in (tmp_path / "out" / "maps").rglob("*") if path.is_file()]
    scored = predictions.loc[predictions.status == "scored", "image"].tolist()
    assert len(scored) == len(predictions) - 3 == len(names) - 1
    assert sorted(path.relative_to(tmp_path / "out" / "maps").as_posix() for path in drawn) == sorted(
        f"{image}.png" for image in scored
    )
    for image in scored:
        assert lit(tmp_path / "out" / "maps" / f"{image}.png") == squares[image]


def test_maps_change_no_prediction(folder: Path, tmp_path: Path) -> None:
    patches(folder / "a.png", **MORE_BRIGHT)
    patches(folder / "c.png", **MORE_DARK)
    (folder / "b.png").write_bytes(b"")
    with_maps = score(looking("multiclass"), folder, heatmaps=tmp_path / "maps")
    pd.testing.assert_frame_equal(with_maps, score(looking("multiclass"), folder))


def test_a_film_that_is_refused_now_has_no_map_from_before(folder: Path, tmp_path: Path) -> None:
    patches(folder / "a.png", **MORE_BRIGHT)
    patches(folder / "b.png", **MORE_BRIGHT)
    score(looking("binary"), folder, heatmaps=tmp_path / "maps")
    (folder / "a.png").write_bytes(b"")
    patches(folder / "b.png", **MORE_DARK)
    score(looking("binary"), folder, heatmaps=tmp_path / "maps")
    assert [path.name for path in (tmp_path / "maps").iterdir()] == ["b.png.png"]
    assert lit(tmp_path / "maps" / "b.png.png") == MORE_DARK["bright"]


@pytest.mark.parametrize("kind", KINDS)
def test_predictions_have_a_column_for_each_output(kind: str, folder: Path) -> None:
    patches(folder / "film.png", **MORE_BRIGHT)
    patches(folder / "none.png", bright=(1, 2, 1), dark=(10, 11, 1))
    predictions = score(looking(kind), folder)
    probabilities = {
        "binary": ["probability"],
        "multiclass": ["probability_No Finding", "probability_bright", "probability_dark"],
        "multilabel": ["probability_bright", "probability_dark"],
    }[kind]
    assert predictions.columns.tolist() == ["image", *probabilities, "decision", "status", "reason"]
    assert predictions.decision.tolist() == ["bright", {"multilabel": "none"}.get(kind, KINDS[kind][0])]
    record = json.loads(json.dumps(summarise(predictions, looking(kind))))
    assert record["classes"] == list(KINDS[kind])
    assert record["thresholds"] == looking(kind).decision_rule.thresholds
    assert record["decisions"] == predictions.decision.value_counts().to_dict()


def test_real_dicom_films_are_scored_and_others_refused(shared_data: Path, tmp_path: Path) -> None:
    classifier = replace(looking("multilabel"), recipe=Recipe(size=SIZE, mode="fit", max_megapixels=20.0))
    predictions = score(classifier, shared_data / "dicom", heatmaps=tmp_path / "maps").set_index("image")
    strange = predictions.index.str.startswith("not_chest")
    assert strange.any()
    assert not strange.all()
    assert (predictions.loc[strange, "reason"] == "not_chest").all()
    assert (predictions.loc[~strange, "status"] == "scored").all()
    drawn = {path.name for path in (tmp_path / "maps").iterdir()}
    assert drawn == {f"{image}.png" for image in predictions.index[~strange]}
