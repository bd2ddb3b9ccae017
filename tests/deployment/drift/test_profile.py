import numpy as np
import pytest

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.deployment.drift.image_features import Observed
from cxr_pipeline.deployment.drift.profile import COMPONENTS, Profile, reference_profile


@pytest.fixture
def profile(made_up) -> Profile:
    return reference_profile(made_up(60, 0), made_up(40, 1), outputs=("ill",), seed=0)


def test_it_survives_its_file_without_pickles(profile, tmp_path) -> None:
    profile.save(tmp_path / "profile.npz")
    again = Profile.load(tmp_path / "profile.npz")
    assert again.outputs == ("ill",)
    for name, array in profile.to_arrays().items():
        np.testing.assert_array_equal(again.to_arrays()[name], array)
        assert array.dtype != object
    with np.load(tmp_path / "profile.npz", allow_pickle=False) as kept:
        assert set(kept.files) == set(profile.to_arrays())


def test_it_holds_each_image_once_in_an_order_that_cannot_be_found_again(made_up) -> None:
    training, held_out = made_up(60, 0), made_up(40, 1)
    profile = reference_profile(training, held_out, outputs=("ill",), seed=0)
    assert not np.array_equal(profile.statistics, training.statistics)
    np.testing.assert_array_equal(np.sort(profile.statistics, axis=0), np.sort(training.statistics, axis=0))
    places = [int(np.flatnonzero(held_out.probability[:, 0] == value)[0]) for value in profile.probability[:, 0]]
    assert places != sorted(places)
    np.testing.assert_array_equal(profile.y_true, held_out.y_true[places])
    np.testing.assert_allclose(profile.features, profile.project(held_out.features)[places], rtol=1e-5)


def test_labels_and_sources_stay_with_their_training_images(made_up, both) -> None:
    training = both(made_up(40, 0, source="a"), made_up(20, 1, source="b"))
    training.y_true[:10, 0] = np.nan
    profile = reference_profile(training, made_up(40, 1, source="c"), outputs=("ill",), seed=0)
    places = [int(np.flatnonzero(training.statistics[:, 0] == value)[0]) for value in profile.statistics[:, 0]]
    np.testing.assert_array_equal(profile.labels, training.y_true[places])
    assert profile.sources == ("a", "b", "c")
    assert [profile.sources[code] for code in profile.training_source] == training.source[places].tolist()
    assert set(profile.held_out_source.tolist()) == {2}


class TestLike:
    @pytest.fixture
    def profile(self, made_up, both) -> Profile:
        """300 training images of ``a`` and 100 of ``b``; 60 and 40 validation images."""
        sides = [
            both(made_up(n_a, seed, source="a"), made_up(n_b, seed + 1, source="b"))
            for n_a, n_b, seed in ((300, 100, 0), (60, 40, 2))
        ]
        return reference_profile(*sides, outputs=("ill",), seed=0)

    @pytest.mark.parametrize(
        ("new", "training", "held_out"),
        [
            ({"b": 7}, (0, 100), (0, 40)),
            ({"a": 7}, (300, 0), (60, 0)),
            ({"a": 50, "b": 50}, (100, 100), (40, 40)),
            ({"a": 90, "b": 10}, (300, 33), (60, 6)),
        ],
    )
    def test_the_largest_set_with_the_shares_of_the_new_images_is_drawn(self, profile, new, training, held_out) -> None:
        found = profile.like(np.repeat(list(new), list(new.values())), at_least=30, seed=0)
        assert tuple(np.bincount(found.training_source, minlength=2)) == training
        assert tuple(np.bincount(found.held_out_source, minlength=2)) == held_out
        for name in ("features", "probability", "y_true"):
            assert len(getattr(found, name)) == sum(held_out)

        def images(of: Profile) -> set[tuple[float, ...]]:
            return {tuple(row) for row in np.column_stack([of.training_source, of.labels, of.statistics])}

        assert len(images(found)) == sum(training)
        assert images(found) <= images(profile)

    @pytest.mark.parametrize("new", [[], [""], ["b", ""], ["b", "c"]])
    def test_where_a_source_is_not_known_all_are_kept(self, profile, new) -> None:
        assert profile.like(np.array(new, np.str_), at_least=1, seed=0) is profile

    def test_fewer_images_than_a_test_needs_are_not_drawn(self, profile) -> None:
        found = profile.like(np.array(["b"]), at_least=41, seed=0)
        assert (len(found.statistics), len(found.probability)) == (100, 100)

    def test_the_lot_can_be_drawn_again(self, profile) -> None:
        new = np.array(["a", "b"])
        first, again, other = (profile.like(new, at_least=1, seed=seed) for seed in (0, 0, 1))
        np.testing.assert_array_equal(first.statistics, again.statistics)
        assert not np.array_equal(first.statistics, other.statistics)

    def test_its_file_keeps_the_sources(self, profile, tmp_path) -> None:
        profile.save(tmp_path / "profile.npz")
        again = Profile.load(tmp_path / "profile.npz").like(np.array(["b"]), at_least=1, seed=0)
        assert (again.sources, len(again.statistics), len(again.probability)) == (("a", "b"), 100, 40)


def test_features_have_variance_1_along_the_directions_of_the_training_images(made_up) -> None:
    rng = np.random.default_rng(0)
    mixed = (rng.normal(size=(500, 30)) @ rng.normal(size=(30, 30)) + 7).astype(np.float32)
    mixed[:, 3] = 5
    nothing = np.zeros((500, 11), np.float32)
    training = Observed(nothing, mixed, nothing[:, :1], nothing[:, :1], np.full(500, ""))
    profile = reference_profile(training, training, outputs=("ill",), seed=0)
    along = profile.project(mixed)[:, :-1]
    assert along.shape == (500, COMPONENTS)
    np.testing.assert_allclose(along.std(axis=0), 1, atol=0.01)
    np.testing.assert_allclose(along.mean(axis=0), 0, atol=1e-3)


def test_what_the_directions_leave_over_is_seen(made_up) -> None:
    rng = np.random.default_rng(0)
    flat = np.zeros((200, 40), np.float32)
    flat[:, :5] = rng.normal(size=(200, 5))
    flat[:, 5:] = 0.01 * rng.normal(size=(200, 35))
    training = Observed(np.zeros((200, 11), np.float32), flat, np.zeros((200, 1)), np.zeros((200, 1)), np.full(200, ""))
    profile = reference_profile(training, training, outputs=("ill",), seed=0)
    strange = flat.copy()
    strange[:, 20:] += 0.3 * rng.normal(size=(200, 20)).astype(np.float32)
    assert np.median(profile.project(strange)[:, -1]) > np.median(profile.project(flat)[:, -1]) + 1


@pytest.mark.parametrize("n_images", [1, 2, 5])
def test_few_images_make_a_profile_all_the_same(made_up, n_images) -> None:
    profile = reference_profile(made_up(n_images, 0), made_up(0, 1), outputs=("ill",), seed=0)
    assert np.isfinite(profile.project(made_up(4, 2).features)).all()
    assert len(profile.probability) == 0


def test_dead_features_weigh_nothing(made_up) -> None:
    training = made_up(30, 0)
    training.features[:, 2] = 4
    profile = reference_profile(training, made_up(30, 1), outputs=("ill",), seed=0)
    moved = made_up(5, 2).features
    moved[:, 2] = 1e6
    same = moved.copy()
    same[:, 2] = 4
    np.testing.assert_allclose(profile.project(moved), profile.project(same))


def test_it_is_small_for_two_thousand_images_of_many_features(made_up, tmp_path) -> None:
    profile = reference_profile(
        made_up(1000, 0, k=14, d=3000), made_up(1000, 1, k=14, d=3000), outputs=["x"] * 14, seed=0
    )
    profile.save(tmp_path / "profile.npz")
    assert (tmp_path / "profile.npz").stat().st_size < 1_000_000


def test_mistakes_are_named(profile, made_up) -> None:
    with pytest.raises(UserError, match="needs training images; found none"):
        reference_profile(made_up(0, 0), made_up(4, 1), outputs=("ill",), seed=0)
    other = {**profile.to_arrays(), "about": np.array('{"version": 99, "outputs": [], "statistics": []}')}
    with pytest.raises(UserError, match="expected version 2, found 99"):
        Profile.from_arrays(other)
