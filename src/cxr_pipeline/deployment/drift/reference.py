"""The profile of a model's own films, read from the image store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cxr_pipeline.data.images.store import PreparedFilms
from cxr_pipeline.data.splits import films_of
from cxr_pipeline.deployment.drift.feature_extraction import observe
from cxr_pipeline.deployment.drift.film_features import Observed, draw_films
from cxr_pipeline.deployment.drift.profile import Profile, reference_profile
from cxr_pipeline.evaluation.decision_rule import DecisionRule
from cxr_pipeline.evaluation.score_tables import patients_of

if TYPE_CHECKING:
    from keras import Model


def profile_of(
    model: Model,
    rule: DecisionRule,
    films: PreparedFilms,
    manifest: pd.DataFrame,
    splits: pd.DataFrame,
    *,
    max_films: int,
    batch_size: int,
    seed: int,
) -> Profile:
    """Make the profile of the films that a model was trained with.

    Args:
        model: the network.
        rule: its decision rule.
        films: prepared by the model's recipe.
        manifest: with ``label_<output>`` for each output of the rule.
        splits: of its films.
        max_films: of the training films, and again of the validation films, one a patient, so many are looked at.
        batch_size: films at a time.
        seed: of the draw.

    Raises:
        UserError: there is no training film, or one is not prepared.
    """

    def look(split: str) -> Observed:
        rows = films_of(manifest, splits, split)
        return look_at_prepared(model, rule, films, rows, max_films=max_films, batch_size=batch_size, seed=seed)

    return reference_profile(look("train"), look("validation"), outputs=rule.outputs, seed=seed)


def look_at_prepared(
    model: Model,
    rule: DecisionRule,
    films: PreparedFilms,
    rows: pd.DataFrame,
    *,
    max_films: int,
    batch_size: int,
    seed: int,
) -> Observed:
    """Draw one film of each patient from rows of the manifest, and look at it.

    Args:
        model: the network.
        rule: its decision rule.
        films: prepared by the model's recipe.
        rows: with ``source``, ``sha256``, ``patient_id`` and ``label_<output>`` for each output of the rule.
        max_films: so many are looked at.
        batch_size: films at a time.
        seed: of the draw.

    Raises:
        UserError: a film is not prepared.
    """
    drawn = rows.iloc[draw_films(_patients(rows), at_most=max_films, seed=seed)]
    labels = drawn[[f"label_{output}" for output in rule.outputs]].to_numpy("float64")
    seen = observe(model, rule, films.batches(drawn["sha256"].tolist(), batch_size), labels)
    return replace(seen, source=drawn["source"].to_numpy(np.str_))


def _patients(films: pd.DataFrame) -> Sequence[str | None]:
    """Name the patient of each film, None where not known."""
    known = patients_of(films)
    return [None] * len(films) if known is None else known.astype(object).where(known.notna(), None).tolist()
