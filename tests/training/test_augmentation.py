import hashlib
from typing import Any

import numpy as np
import pytest

from cxr_pipeline.training.augmentation import AugmentedViews, build_augmentation, preview

OFF: dict[str, Any] = {
    "rotation": 0.0,
    "translation": 0.0,
    "zoom": 0.0,
    "brightness": 0.0,
    "contrast": 0.0,
    "noise": 0.0,
    "flip": False,
    "seed": 0,
}
ALL = OFF | {"rotation": 10.0, "translation": 0.1, "zoom": 0.1, "brightness": 0.2, "contrast": 0.3, "noise": 0.02}
EACH = [{"flip": True}] + [{name: ALL[name]} for name in ALL if ALL[name] and name != "seed"]


@pytest.fixture
def films() -> np.ndarray:
    """Four films with a smooth pattern that no symmetry maps to itself."""
    rows, columns = np.mgrid[0:32, 0:32] / 31
    patterns = [100 + 60 * np.sin(3 * rows + k) * columns + 30 * columns for k in range(4)]
    return np.stack(patterns).astype(np.uint8)


def digests(films: np.ndarray) -> list[str]:
    return [hashlib.sha256(film.tobytes()).hexdigest() for film in films]


def render(films: np.ndarray, views: list[int], **changes: Any) -> np.ndarray:
    return AugmentedViews(ALL | changes).render(films, digests(films), views)


@pytest.mark.parametrize("changes", [{}, *EACH])
def test_films_pass_unchanged_outside_training(films: np.ndarray, changes: dict[str, Any]) -> None:
    batch = films[..., np.newaxis].astype(np.float32)
    passed = build_augmentation(**OFF | changes)(batch, training=False)
    np.testing.assert_allclose(passed, batch, rtol=1e-5)


@pytest.mark.parametrize("changes", EACH, ids=str)
def test_each_strength_changes_films_in_training(films: np.ndarray, changes: dict[str, Any]) -> None:
    batch = np.tile(films, (4, 1, 1))[..., np.newaxis].astype(np.float32)
    changed = np.asarray(build_augmentation(**OFF | changes)(batch, training=True))
    assert changed.shape == batch.shape
    assert changed.dtype == np.float32
    assert np.abs(changed - batch).max() > 1
    assert not np.allclose(changed[0], changed[4], atol=0.1) or changes == {"flip": True}


def test_without_strengths_nothing_changes(films: np.ndarray) -> None:
    batch = films[..., np.newaxis].astype(np.float32)
    np.testing.assert_allclose(build_augmentation(**OFF)(batch, training=True), batch, rtol=1e-5)


def test_flip_mirrors_left_and_right(films: np.ndarray) -> None:
    drawn = render(films, [1, 2, 3, 4], **OFF | {"flip": True})[..., 0]
    mirrored = [np.allclose(view, film[:, ::-1], atol=1e-3) for view, film in zip(drawn, films, strict=True)]
    same = [np.allclose(view, film, atol=1e-3) for view, film in zip(drawn, films, strict=True)]
    assert all(a != b for a, b in zip(mirrored, same, strict=True))


def test_brightness_moves_all_greys_within_its_bound(films: np.ndarray) -> None:
    films = np.clip(films, 60, 190)
    shifts = render(films, [1, 2, 3, 4], **OFF | {"brightness": 0.2})[..., 0] - films
    assert np.ptp(shifts, axis=(1, 2)).max() < 0.01
    assert 1 < np.abs(shifts).max() <= 0.2 * 255 + 0.01


def test_noise_has_the_configured_deviation(films: np.ndarray) -> None:
    noise = render(films, [1, 2, 3, 4], **OFF | {"noise": 0.02})[..., 0] - films
    assert noise.std() == pytest.approx(0.02 * 255, rel=0.1)


def test_view_0_is_the_film_itself(films: np.ndarray) -> None:
    np.testing.assert_array_equal(render(films, [0] * 4)[..., 0], films)


def test_a_view_does_not_depend_on_the_films_beside_it(films: np.ndarray) -> None:
    together = render(films, [1, 2, 1, 3])
    backwards = render(films[::-1], [3, 1, 2, 1])
    np.testing.assert_array_equal(backwards[::-1], together)
    np.testing.assert_array_equal(render(films[1:2], [2])[0], together[1])


def test_views_seeds_and_films_draw_differently(films: np.ndarray) -> None:
    first = render(films, [1] * 4)
    for other in (render(films, [2] * 4), render(films, [1] * 4, seed=1)):
        assert all(np.abs(a - b).max() > 1 for a, b in zip(first, other, strict=True))
    twins = AugmentedViews(OFF | {"rotation": 10.0}).render(films[[0, 0]], ["0a", "0b"], [1, 1])
    assert np.abs(twins[0] - twins[1]).max() > 1


def test_preview_shows_the_views_that_are_trained_on(films: np.ndarray) -> None:
    shown = preview(films, sha256s=digests(films), views=3, augmentation=ALL | {"views": 5})
    assert shown.shape == (4, 3, 32, 32)
    assert shown.dtype == np.uint8
    expected = np.clip(np.rint(render(films, [2] * 4)[..., 0]), 0, 255)
    np.testing.assert_array_equal(shown[:, 1], expected)
