"""The films and the labels that the sanity checks learn."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np

from cxr_pipeline.training.features import Films
from cxr_pipeline.training.film_sets import FilmSet


def balanced_subset(films: FilmSet, n_films: int, *, seed: int) -> FilmSet:
    """Deal films from each class in turn, and from those that have none, until there are enough.

    Args:
        films: to choose from; one of which nothing is known is never chosen.
        n_films: wanted; fewer if there are no more, more if there are more classes that have films.
        seed: of the choice.

    Returns:
        The films, each shown once and weighing the same.
    """
    positive = films.y == 1
    none = ~positive.any(axis=1) & ~np.isnan(films.y).all(axis=1)
    members = [np.flatnonzero(column) for column in (*positive.T, none) if column.any()]
    rng = np.random.default_rng(seed)
    decks = [list(rng.permutation(places)) for places in members]
    chosen: dict[int, None] = {}
    wanted = max(n_films, len(decks))
    while any(decks) and len(chosen) < wanted:
        for deck in decks:
            while deck and deck[-1] in chosen:
                deck.pop()
            if deck and len(chosen) < wanted:
                chosen[deck.pop()] = None
    places = np.array(sorted(chosen))
    return FilmSet.unweighted(films=films.films, sha256=films.sha256[places], y=films.y[places])


def shuffle_labels(train: FilmSet, validation: FilmSet, *, seed: int) -> tuple[FilmSet, FilmSet, np.ndarray]:
    """Deal the labels of films anew: those of a film stay together, and equal films keep equal labels.

    Args:
        train: films that are learnt from.
        validation: films kept apart.
        seed: of the deal.

    Returns:
        Both with their new labels, and the number of the content of each validation film, integers [n].
    """
    digests = [*_content_digests(train.films, train.sha256), *_content_digests(validation.films, validation.sha256)]
    _, first, content = np.unique(digests, return_index=True, return_inverse=True)
    labels = np.concatenate([train.y, validation.y])[first]
    y = np.random.default_rng(seed).permutation(labels)[content]
    n = len(train.y)
    return replace(train, y=y[:n]), replace(validation, y=y[n:]), content[n:]


def _content_digests(films: Films, sha256s: np.ndarray) -> list[str]:
    """Digests of the films as the network sees them, so that two files of one film are equal."""
    chunks = (films.read(sha256s[start : start + 64].tolist()) for start in range(0, len(sha256s), 64))
    return [hashlib.sha256(film.tobytes()).hexdigest() for chunk in chunks for film in chunk]
