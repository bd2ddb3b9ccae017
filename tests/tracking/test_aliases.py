import mlflow
import pytest

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.tracking import aliases


@pytest.fixture
def name(new_model):
    return new_model(5)


def numbers(**given):
    return {**dict.fromkeys(aliases.ALIASES), **given}


def tags(name, version):
    return mlflow.MlflowClient().get_model_version(name, str(version)).tags


def test_the_champion_becomes_the_previous_version(name):
    assert aliases.aliases_of("cxr-unknown") == aliases.aliases_of(name) == numbers()
    assert aliases.promote(name, 1, over=None) == numbers(champion=1)
    assert aliases.promote(name, 3, over=1) == numbers(champion=3, previous=1)
    assert aliases.promote(name, 4, over=3) == numbers(champion=4, previous=3)


def test_there_is_a_champion_after_every_single_change(name, monkeypatch):
    history = []
    aliases.promote(name, 1, over=None)
    aliases.keep_as_challenger(name, 2)
    for change in ("set_registered_model_alias", "delete_registered_model_alias", "set_model_version_tag"):
        original = getattr(mlflow.MlflowClient, change)

        def changed(self, *args, original=original):
            original(self, *args)
            history.append(aliases.aliases_of(name))

        monkeypatch.setattr(mlflow.MlflowClient, change, changed)
    aliases.promote(name, 2, over=1)
    aliases.roll_back(name)
    assert len(history) == 6
    assert all(state["champion"] in (1, 2) for state in history)
    assert history[0] == numbers(champion=1, previous=1, challenger=2)


def test_a_challenger_keeps_its_alias_until_it_or_a_newer_version_is_promoted(name):
    assert aliases.keep_as_challenger(name, 3) == numbers(challenger=3)
    assert aliases.promote(name, 1, over=None) == numbers(champion=1, challenger=3)
    assert aliases.keep_as_challenger(name, 1) == numbers(champion=1, challenger=3)
    assert aliases.keep_as_challenger(name, 2) == numbers(champion=1, challenger=2)
    assert aliases.promote(name, 2, over=1) == numbers(champion=2, previous=1)


def test_a_version_is_promoted_only_over_the_champion_that_it_was_compared_with(name):
    aliases.promote(name, 1, over=None)
    for over in (None, 3):
        with pytest.raises(UserError, match="when version 2 was evaluated, and is version 1 now"):
            aliases.promote(name, 2, over=over)
    assert aliases.aliases_of(name) == numbers(champion=1)


def test_an_interrupted_promotion_can_be_repeated(name):
    aliases.promote(name, 1, over=None)
    mlflow.MlflowClient().set_registered_model_alias(name, "previous", "1")
    assert aliases.promote(name, 2, over=1) == numbers(champion=2, previous=1)


@pytest.mark.parametrize(("reference", "kept"), [(2, {}), (1, {"reference": 1}), (3, {"reference": 3})])
def test_a_rollback_restores_the_previous_champion(name, reference, kept):
    aliases.promote(name, 1, over=None)
    aliases.promote(name, 2, over=1)
    aliases.keep_as_challenger(name, 3)
    aliases.set_reference(name, reference)
    assert aliases.roll_back(name) == (1, 2)
    assert aliases.aliases_of(name) == numbers(champion=1, challenger=3, **kept)
    assert [aliases.ROLLED_BACK in tags(name, number) for number in (1, 2)] == [False, True]


def test_a_rollback_that_was_killed_before_its_last_step_leaves_no_alias_when_it_is_repeated(name):
    aliases.promote(name, 1, over=None)
    aliases.promote(name, 2, over=1)
    aliases.roll_back(name)
    mlflow.MlflowClient().set_registered_model_alias(name, "previous", "1")
    with pytest.raises(UserError, match="the champion is version 1, and version 2 was rolled back on"):
        aliases.roll_back(name)
    assert aliases.aliases_of(name) == numbers(champion=1)


def test_only_one_rollback_is_possible(name):
    with pytest.raises(
        UserError, match=f"{name} has no earlier champion to roll back to; the champion is none, and none was"
    ):
        aliases.roll_back(name)
    aliases.promote(name, 1, over=None)
    aliases.promote(name, 2, over=1)
    aliases.roll_back(name)
    with pytest.raises(UserError, match="the champion is version 1, and version 2 was rolled back on 20") as raised:
        aliases.roll_back(name)
    assert str(raised.value).endswith(f"To use another version: kedro promote {name.removeprefix('cxr-')} VERSION")
    assert aliases.promote(name, 2, over=1) == numbers(champion=2, previous=1)
    assert aliases.ROLLED_BACK not in tags(name, 2)
