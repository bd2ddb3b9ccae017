"""Films that are unlike those of the model, on their way through the network."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np
import pandas as pd
import pytest

from cxr_pipeline.common.errors import FilmRefused
from cxr_pipeline.data.phantoms import draw_patient
from cxr_pipeline.deployment.classifier import FilmClassifier
from cxr_pipeline.deployment.drift.feature_extraction import observe
from cxr_pipeline.deployment.drift.profile import Profile, reference_profile
from cxr_pipeline.deployment.scoring import Predictions, find_films, score_folder, summarise
from cxr_pipeline.deployment.scoring.ood_screening import Lookout
from cxr_pipeline.deployment.scoring.predictions import UNLIKE
from cxr_pipeline.training.networks.heads import OUTPUT, POOLED

SIZE = 16
ASKED: dict[str, Any] = {"unlike": "flag", "false_alarms": 0.02, "min_films": 30, "max_films": 6, "seed": 3}


def phantom(patient: int) -> np.ndarray:
    return next(draw_patient(patient, size=SIZE, prevalence={}, seed=1)).pixels


@pytest.fixture(scope="module")
def watched(classifier: FilmClassifier) -> tuple[FilmClassifier, Profile]:
    """A network with features, and the profile of the phantoms that it would come from."""
    film = keras.Input((SIZE, SIZE, 1))
    grey = keras.layers.Conv2D(1, 1, kernel_initializer=keras.initializers.Constant(1 / 255))(film)
    pooled = keras.layers.Flatten(name=POOLED)(keras.layers.AveragePooling2D(4)(grey))
    score = keras.layers.Dense(1, "sigmoid", name=OUTPUT, kernel_initializer=keras.initializers.Constant(0.1))
    owner = replace(classifier, model=keras.Model(film, score(pooled)))
    films = np.stack([phantom(patient) for patient in range(1, 161)])
    own = [observe(owner.model, owner.decision_rule, [part]) for part in (films[:100], films[100:])]
    return owner, reference_profile(*own, outputs=("effusion",), seed=0)


@pytest.fixture
def films(folder: Path) -> Path:
    """Twenty phantoms, a film of noise and a file that is no film."""
    folder.mkdir()
    for patient in range(201, 221):
        cv2.imwrite(str(folder / f"{patient}.png"), phantom(patient))
    noise = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE), dtype=np.uint8)
    cv2.imwrite(str(folder / "noise.png"), noise)
    (folder / "broken.png").write_bytes(b"no film")
    return folder


class Counting(Lookout):
    """Counts the films that go through its network."""

    n_seen = 0

    def judge(self, prepared: Any, drawn: Any) -> pd.DataFrame:
        self.n_seen += sum(not isinstance(film, FilmRefused) for film in prepared)
        return super().judge(prepared, drawn)


@pytest.fixture
def score(tmp_path: Path, watched: tuple[FilmClassifier, Profile]) -> Callable[..., tuple[Predictions, Counting]]:
    def score_films(folder: Path, heatmaps: Path | None = None, **asked: Any) -> tuple[Predictions, Counting]:
        lookout = Counting(*watched, **{**ASKED, **asked})
        where: dict[str, Any] = {"scored_by": "1", "parts": tmp_path / "parts", "batch_size": 4, "heatmaps": heatmaps}
        return score_folder(watched[0], find_films(str(folder), key="k"), **where, lookout=lookout), lookout

    return score_films


def table(predictions: Predictions) -> pd.DataFrame:
    return pd.concat(predictions, ignore_index=True).set_index("image")


def test_a_flagged_film_keeps_its_probability(score, films, watched) -> None:
    predictions, lookout = score(films)
    rows = table(predictions)
    assert rows.columns.tolist() == ["probability", "decision", "status", "reason"]
    assert rows.loc["noise.png", ["status", "reason"]].tolist() == ["scored", UNLIKE]
    assert rows.loc["broken.png", ["status", "reason"]].tolist() == ["refused", "unreadable"]
    assert (rows["reason"] == UNLIKE).sum() <= 2
    names = rows.index[rows["status"] == "scored"]
    expected = watched[0].score([(films / name).read_bytes() for name in names])
    np.testing.assert_allclose(rows.loc[names, "probability"], expected["probability"], atol=1e-6)
    assert rows.loc[names, "decision"].tolist() == expected["decision"].tolist()
    record = summarise(predictions, watched[0])
    assert (record["n_films"], record["n_scored"], record["refused"]) == (22, 21, {"unreadable": 1})
    assert record["flagged"] == {UNLIKE: (rows["reason"] == UNLIKE).sum()}
    assert lookout.n_seen == 21


def test_a_film_can_be_refused_for_it_and_has_no_heat_map(score, films, tmp_path) -> None:
    predictions, _ = score(films, unlike="refuse", heatmaps=tmp_path / "maps")
    rows = table(predictions)
    assert rows.loc["noise.png", ["status", "reason"]].tolist() == ["refused", UNLIKE]
    assert rows.loc["noise.png", ["probability", "decision"]].isna().all()
    drawn = {path.name.removesuffix(".png") for path in (tmp_path / "maps").iterdir()}
    assert drawn == set(rows.index[rows["status"] == "scored"])


def test_or_nothing_is_made_of_it(score, films) -> None:
    predictions, _ = score(films, unlike="ignore")
    assert table(predictions)["reason"].dropna().tolist() == ["unreadable"]


def test_what_was_looked_at_is_not_looked_at_again(score, films) -> None:
    first = table(score(films)[0])
    predictions, lookout = score(films)
    assert lookout.n_seen == 0
    pd.testing.assert_frame_equal(table(predictions), first)
    assert len(predictions.observed()) == len(lookout.draw(find_films(str(films), key="k"))) == 6


@pytest.mark.parametrize("changed", [{"unlike": "refuse"}, {"false_alarms": 0.2}, {"min_films": 40}])
def test_another_setting_scores_all_anew(score, films, changed) -> None:
    predictions, _ = score(films)
    del predictions
    predictions, lookout = score(films, **changed)
    assert (lookout.n_seen, predictions.n_kept) == (21, 0)


def test_what_is_seen_of_the_sample_is_what_the_network_gives(score, films, watched) -> None:
    predictions, lookout = score(films, max_films=100)
    seen = lookout.observed(predictions.observed())
    owner = watched[0]
    names = sorted(path.name for path in films.iterdir() if path.name != "broken.png")
    prepared = np.stack([owner.prepare((films / name).read_bytes()) for name in names])
    expected = observe(owner.model, owner.decision_rule, [prepared])
    for part in ("statistics", "features", "probability"):
        found = sorted(getattr(seen, part).round(4).tolist())
        np.testing.assert_allclose(found, sorted(getattr(expected, part).round(4).tolist()), atol=2e-4)
    assert np.isnan(seen.y_true).all()


def test_a_refused_film_counts_among_those_taken_together(score, films) -> None:
    flagged, _ = score(films, max_films=100)
    seen = flagged.observed()
    del flagged
    assert score(films, max_films=100, unlike="refuse")[0].observed() == seen


def test_the_draw_follows_the_films_that_come_and_go(score, films) -> None:
    """As films come, only they are scored; where drawn ones go, others in their place are looked at once."""
    predictions, lookout = score(films)
    del predictions
    for patient in range(301, 311):
        cv2.imwrite(str(films / f"{patient}.png"), phantom(patient))
    predictions, lookout = score(films)
    assert (lookout.n_seen, len(predictions.observed())) == (10, 6)
    del predictions
    for film in lookout.draw(find_films(str(films), key="k"))[:3]:
        (films / film.path).unlink()
    predictions, lookout = score(films)
    assert len(predictions.observed()) == 6
    assert lookout.n_seen <= 3
    before = table(predictions)
    del predictions
    predictions, lookout = score(films)
    assert lookout.n_seen == 0
    pd.testing.assert_frame_equal(table(predictions), before)


def test_a_larger_sample_looks_at_the_films_that_it_adds(score, films) -> None:
    predictions, _ = score(films)
    del predictions
    predictions, lookout = score(films, max_films=12)
    assert 0 < lookout.n_seen <= 6
    assert len(predictions.observed()) in (11, 12)
    # What could not be read is tried again in every run.
    assert predictions.n_kept == 21 - lookout.n_seen


def test_after_a_kill_the_rest_is_scored(score, films, monkeypatch) -> None:
    from cxr_pipeline.deployment.scoring import folder as module

    real = module.Parts
    monkeypatch.setattr(module, "Parts", lambda *given: real(*given, n_films=4))
    whole, _ = score(films)
    expected, sample = table(whole), sorted(whole.observed())
    shutil.rmtree(whole.parts._folder)
    del whole
    judge = Counting.judge

    def killed(self: Counting, prepared: Any, drawn: Any) -> pd.DataFrame:
        if self.n_seen >= 8:
            raise KeyboardInterrupt
        return judge(self, prepared, drawn)

    monkeypatch.setattr(Counting, "judge", killed)
    with pytest.raises(KeyboardInterrupt):
        score(films)
    monkeypatch.setattr(Counting, "judge", judge)
    predictions, lookout = score(films)
    assert lookout.n_seen == 21 - 8
    pd.testing.assert_frame_equal(table(predictions), expected)
    assert sorted(predictions.observed()) == sample
