from collections.abc import Iterator

import mlflow
import pytest

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.tracking import aliases

pytestmark = pytest.mark.parametrize("store", ["file", "server"], indirect=True, scope="module")


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A model with five versions and no alias."""
    client = mlflow.MlflowClient()
    found = f"cxr-{abs(hash(request.node.name))}"
    client.create_registered_model(found)
    for _ in range(5):
        client.create_model_version(found, source="s3://nothing/nothing")
    return found


@pytest.fixture
def moves(monkeypatch: pytest.MonkeyPatch, name: str) -> Iterator[list[dict[str, int | None]]]:
    """The aliases after each single change that is made."""
    seen: list[dict[str, int | None]] = []
    for change in ("set_registered_model_alias", "delete_registered_model_alias", "set_model_version_tag"):
        original = getattr(mlflow.MlflowClient, change)

        def watched(self, *args, original=original):
            original(self, *args)
            seen.append(aliases.aliases_of(name))

        monkeypatch.setattr(mlflow.MlflowClient, change, watched)
    yield seen


def given(champion: int | None = None, previous: int | None = None, challenger: int | None = None) -> dict:
    return {"champion": champion, "previous": previous, "challenger": challenger}


def tags(name: str, version: int) -> dict[str, str]:
    return mlflow.MlflowClient().get_model_version(name, str(version)).tags


def test_a_model_that_nobody_registered_has_no_aliases() -> None:
    assert aliases.aliases_of("cxr-nobody") == given()


def test_the_champion_becomes_the_previous_one(name: str) -> None:
    assert aliases.promote(name, 1, over=None) == given(champion=1)
    assert aliases.promote(name, 3, over=1) == given(champion=3, previous=1)
    assert aliases.promote(name, 4, over=3) == given(champion=4, previous=3)


def test_there_is_a_champion_at_every_moment(name: str, moves) -> None:
    aliases.promote(name, 1, over=None)
    moves.clear()
    aliases.promote(name, 2, over=1)
    aliases.roll_back(name)
    assert len(moves) == 6
    assert all(state["champion"] in (1, 2) for state in moves)
    assert moves[0] == given(champion=1, previous=1)


def test_a_challenger_that_is_promoted_is_no_challenger_any_more(name: str) -> None:
    aliases.promote(name, 1, over=None)
    assert aliases.keep_as_challenger(name, 2) == given(champion=1, challenger=2)
    assert aliases.keep_as_challenger(name, 3) == given(champion=1, challenger=3)
    assert aliases.promote(name, 3, over=1) == given(champion=3, previous=1)


def test_the_champion_is_not_its_own_challenger(name: str) -> None:
    aliases.promote(name, 1, over=None)
    assert aliases.keep_as_challenger(name, 1) == given(champion=1)


def test_nobody_is_promoted_over_a_champion_it_was_not_compared_with(name: str) -> None:
    aliases.promote(name, 1, over=None)
    with pytest.raises(UserError, match="was none when version 2 was judged, and is version 1 now"):
        aliases.promote(name, 2, over=None)
    with pytest.raises(UserError, match="was version 3 when"):
        aliases.promote(name, 2, over=3)
    assert aliases.aliases_of(name) == given(champion=1)


def test_a_promotion_that_was_cut_short_can_be_made_again(name: str) -> None:
    client = mlflow.MlflowClient()
    aliases.promote(name, 1, over=None)
    client.set_registered_model_alias(name, "previous", "1")
    with pytest.raises(UserError, match="There is no version to go back to"):
        aliases.roll_back(name)
    assert aliases.promote(name, 2, over=1) == given(champion=2, previous=1)


def test_the_previous_champion_comes_back(name: str) -> None:
    aliases.promote(name, 1, over=None)
    aliases.promote(name, 2, over=1)
    aliases.keep_as_challenger(name, 3)
    assert aliases.roll_back(name) == (1, 2)
    assert aliases.aliases_of(name) == given(champion=1, challenger=3)
    assert aliases.ROLLED_BACK in tags(name, 2)
    assert aliases.ROLLED_BACK not in tags(name, 1)


def test_one_can_go_back_once(name: str) -> None:
    with pytest.raises(UserError, match=f"champion of {name} is none"):
        aliases.roll_back(name)
    aliases.promote(name, 1, over=None)
    aliases.promote(name, 2, over=1)
    aliases.roll_back(name)
    with pytest.raises(UserError, match=f"champion of {name} is version 1") as raised:
        aliases.roll_back(name)
    assert f"set_registered_model_alias('{name}', 'champion', 'VERSION')" in str(raised.value)
    assert aliases.aliases_of(name) == given(champion=1)


def test_what_is_promoted_again_is_not_rolled_back_any_more(name: str) -> None:
    aliases.promote(name, 1, over=None)
    aliases.promote(name, 2, over=1)
    aliases.roll_back(name)
    assert aliases.promote(name, 2, over=1) == given(champion=2, previous=1)
    assert aliases.ROLLED_BACK not in tags(name, 2)
