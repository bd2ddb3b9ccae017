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

from cxr_pipeline.classifier import FilmClassifier
from cxr_pipeline.decision_rule import fit_decision_rule
from cxr_pipeline.errors import UserError
from cxr_pipeline.images.recipe import Recipe
from cxr_pipeline.scoring import check_classes, find_films, score_folder, summarise

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


def score(classifier: FilmClassifier, folder: Path, *, batch_size: int = 2) -> pd.DataFrame:
    root, films = find_films(str(folder), key=KEY)
    return score_folder(classifier, root, films, batch_size=batch_size)


def test_every_film_below_the_folder_is_found_in_the_same_order(folder: Path, draw: Draw) -> None:
    names = ["b.png", "a.JPG", "ward 1/c.jpeg", "ward 1/deep/er/d.TIFF", "e.tif", "f.bmp", "g.WebP"]
    for name in names:
        draw(name)
    for name in ["notes.txt", "report.pdf", ".hidden.png", ".cache/h.png", "png"]:
        draw(name)
    root, films = find_films(str(folder), key=KEY)
    assert [film.relative_to(root).as_posix() for film in films] == sorted(names)


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
    check_classes(classifier, ("nofinding", "effusion"), key="effusion.scoring.model")
    with pytest.raises(UserError, match=r"effusion\.scoring\.model decides between nofinding, effusion; .*pneumonia"):
        check_classes(classifier, ("normal", "pneumonia"), key="effusion.scoring.model")


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
        "threshold": 0.5,
        "provenance": {"task": "effusion", "films": "real"},
        "n_films": 4,
        "n_scored": 3,
        "decisions": {"nofinding": 1, "effusion": 2},
        "refused": {"empty": 1},
    }
