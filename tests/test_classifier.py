import json
import zipfile
from dataclasses import replace
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_pipeline.classifier import FilmClassifier
from cxr_pipeline.decision_rule import DecisionRule, fit_decision_rule
from cxr_pipeline.errors import FilmRefused, UserError
from cxr_pipeline.images.recipe import Recipe

SIZE = 16


def rule(threshold: float) -> DecisionRule:
    return fit_decision_rule(
        [[0], [1]],
        [[0.2], [0.8]],
        kind="binary",
        classes=("nofinding", "effusion"),
        calibration="none",
        policy={"rule": "fixed", "value": threshold},
    )


def brightness_network() -> keras.Model:
    """A network whose score is known without it: the mean grey of the film, as a fraction of white."""
    film = keras.Input((SIZE, SIZE, 1), name="film")
    mean = keras.layers.GlobalAveragePooling2D()(film)
    score = keras.layers.Dense(1, use_bias=False, kernel_initializer=keras.initializers.Constant(1 / 255))(mean)
    return keras.Model(film, score, name="brightness")


@pytest.fixture(scope="module")
def classifier() -> FilmClassifier:
    recipe = Recipe(size=SIZE, mode="stretch", max_megapixels=1.0)
    return FilmClassifier(brightness_network(), recipe, rule(0.5), {"task": "effusion", "films": "real"})


def half_lit(grey: int) -> bytes:
    """A film of two halves, whose mean is ``grey``."""
    film = np.full((64, 64), grey - 10, np.uint8)
    film[:, 32:] = grey + 10
    return cv2.imencode(".png", film)[1].tobytes()


def test_probability_and_decision_are_those_of_the_network_and_the_rule(classifier: FilmClassifier) -> None:
    judged = classifier.score([half_lit(51), half_lit(204)])
    np.testing.assert_allclose(judged.probability, [0.2, 0.8], atol=1e-6)
    assert judged.decision.tolist() == ["nofinding", "effusion"]
    assert judged.threshold.tolist() == [0.5, 0.5]
    assert judged.status.tolist() == ["scored", "scored"]
    assert judged.reason.isna().all()


def test_a_bad_film_does_not_fail_the_others(classifier: FilmClassifier) -> None:
    judged = classifier.score([half_lit(51), b"no film", half_lit(204), b""])
    assert judged.status.tolist() == ["scored", "refused", "scored", "refused"]
    assert judged.reason.fillna("").tolist() == ["", "unreadable", "", "empty"]
    assert judged.probability.isna().tolist() == judged.decision.isna().tolist() == [False, True, False, True]
    np.testing.assert_allclose(judged.probability[2], 0.8, atol=1e-6)


def test_a_larger_film_than_the_recipe_allows_is_refused(classifier: FilmClassifier) -> None:
    film = cv2.imencode(".png", np.eye(1100, dtype=np.uint8))[1].tobytes()
    assert classifier.score([film]).reason.tolist() == ["too_large"]


def test_no_films_give_no_rows_and_the_same_columns(classifier: FilmClassifier) -> None:
    none, some = classifier.score([]), classifier.score([half_lit(51)])
    assert len(none) == 0
    assert none.columns.tolist() == some.columns.tolist()
    assert none.dtypes.tolist() == some.dtypes.tolist()


@settings(max_examples=15, deadline=None)
@given(greys=st.lists(st.none() | st.integers(0, 255), max_size=9), batch_size=st.integers(1, 5))
def test_a_film_is_judged_alike_in_any_company(
    classifier: FilmClassifier, greys: list[int | None], batch_size: int
) -> None:
    prepared = [
        FilmRefused("unreadable", "") if grey is None else np.full((SIZE, SIZE), grey, np.uint8) for grey in greys
    ]
    judged = classifier.judge(prepared, batch_size=batch_size)
    expected = np.array([np.nan if grey is None else grey / 255 for grey in greys])
    np.testing.assert_allclose(judged.probability, expected, atol=1e-6)
    assert judged.reason.fillna("").tolist() == ["unreadable" if grey is None else "" for grey in greys]


def test_what_is_loaded_judges_as_what_was_saved(classifier: FilmClassifier, tmp_path: Path) -> None:
    classifier.save(tmp_path / "saved")
    loaded = FilmClassifier.load(tmp_path / "saved")
    films = [half_lit(grey) for grey in (40, 120, 200)]
    assert loaded.score(films).equals(classifier.score(films))
    assert loaded.digest == classifier.digest
    assert loaded.provenance == classifier.provenance
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == ["classifier.json", "model.keras"]


def test_the_state_of_the_optimiser_is_left_behind(classifier: FilmClassifier, tmp_path: Path) -> None:
    network = brightness_network()
    network.compile("adam", "mse")
    network.train_on_batch(np.ones((2, SIZE, SIZE, 1)), np.ones((2, 1)))
    network.save(tmp_path / "whole.keras")
    replace(classifier, model=network).save(tmp_path / "saved")

    def weights(path: Path) -> bytes:
        with zipfile.ZipFile(path) as archive:
            return archive.read("model.weights.h5")

    assert b"optimizer" in weights(tmp_path / "whole.keras")
    assert b"optimizer" not in weights(tmp_path / "saved" / "model.keras")


def test_digest_changes_with_whatever_decides_a_probability(classifier: FilmClassifier) -> None:
    brighter = brightness_network()
    brighter.set_weights([np.array([[2 / 255]], np.float32)])
    other_recipe = Recipe(size=SIZE, mode="fit", max_megapixels=1.0)
    digests = {
        classifier.digest,
        replace(classifier, model=brighter).digest,
        replace(classifier, recipe=other_recipe).digest,
        replace(classifier, decision_rule=rule(0.6)).digest,
    }
    assert len(digests) == 4
    same = replace(classifier, model=brightness_network(), provenance={"task": "other"})
    assert same.digest == classifier.digest


def test_changed_files_are_not_loaded(classifier: FilmClassifier, tmp_path: Path) -> None:
    classifier.save(tmp_path / "saved")
    file = tmp_path / "saved" / "classifier.json"
    settings = json.loads(file.read_text())
    settings["decision_rule"]["thresholds"]["effusion"] = 0.1
    file.write_text(json.dumps(settings))
    with pytest.raises(UserError, match=r"changed since: expected the digest [0-9a-f]{64}, found [0-9a-f]{64}"):
        FilmClassifier.load(tmp_path / "saved")


def test_code_in_the_file_of_a_network_is_not_run(classifier: FilmClassifier, tmp_path: Path) -> None:
    classifier.save(tmp_path / "saved")
    film = keras.Input((SIZE, SIZE, 1))
    harmful = keras.Model(film, keras.layers.Lambda(lambda x: x[:, 0, 0])(film))
    harmful.save(tmp_path / "saved" / "model.keras", overwrite=True)
    with pytest.raises(ValueError, match=r"[Ll]ambda"):
        FilmClassifier.load(tmp_path / "saved")
