"""Which version of a model is in use: the aliases champion, previous and challenger.

Moves are made in an order in which there is a champion at every moment, and after which, cut short, the same move can
be made again.
"""

from datetime import UTC, datetime

import mlflow

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.tracking.server import exclusive, without_password

CHAMPION, PREVIOUS, CHALLENGER = ALIASES = ("champion", "previous", "challenger")
ROLLED_BACK = "rolled_back"


def aliases_of(name: str) -> dict[str, int | None]:
    """Tell which version each alias of a model means; None for an alias that is not given.

    Args:
        name: of the registered model; it need not exist.
    """
    found: dict[str, str] = {}
    try:
        found = mlflow.MlflowClient().get_registered_model(name).aliases
    except mlflow.MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
    return {alias: int(found[alias]) if alias in found else None for alias in ALIASES}


def promote(name: str, version: int, *, over: int | None) -> dict[str, int | None]:
    """Make a version the champion; the champion until now becomes the previous one.

    Args:
        name: of the registered model.
        version: its number.
        over: the champion that it was compared with; None if there was none.

    Returns:
        the aliases then.

    Raises:
        UserError: the champion is another one by now.
    """
    client = mlflow.MlflowClient()
    with exclusive(mlflow.get_tracking_uri()):
        champion = aliases_of(name)[CHAMPION]
        if champion != over:
            raise UserError(
                f"The champion of {name} was {_named(over)} when version {version} was judged, and is "
                f"{_named(champion)} now. Nothing was changed. Run the same command again to judge it anew; nothing is "
                "trained twice."
            )
        if champion is not None and champion != version:
            client.set_registered_model_alias(name, PREVIOUS, str(champion))
        client.set_registered_model_alias(name, CHAMPION, str(version))
        client.delete_registered_model_alias(name, CHALLENGER)
        client.delete_model_version_tag(name, str(version), ROLLED_BACK)
    return aliases_of(name)


def keep_as_challenger(name: str, version: int) -> dict[str, int | None]:
    """Give a version the alias challenger, unless it is in use.

    Returns:
        the aliases then.
    """
    with exclusive(mlflow.get_tracking_uri()):
        if aliases_of(name)[CHAMPION] != version:
            mlflow.MlflowClient().set_registered_model_alias(name, CHALLENGER, str(version))
    return aliases_of(name)


def roll_back(name: str) -> tuple[int, int]:
    """Put the previous champion back; the one in use is tagged ``rolled_back`` and has no alias any more.

    Args:
        name: of the registered model.

    Returns:
        the version that is champion again, and the one that was.

    Raises:
        UserError: there is no previous champion.
    """
    client = mlflow.MlflowClient()
    with exclusive(mlflow.get_tracking_uri()):
        now = aliases_of(name)
        champion, previous = now[CHAMPION], now[PREVIOUS]
        if champion is None or previous is None or previous == champion:
            raise UserError(
                f"There is no version to go back to: the champion of {name} is {_named(champion)}, and none was "
                'champion before. To put any other version in use, give it the alias by hand: python -c "import '
                f"mlflow; mlflow.set_tracking_uri('{without_password(mlflow.get_tracking_uri())}'); "
                f"mlflow.MlflowClient().set_registered_model_alias('{name}', '{CHAMPION}', 'VERSION')\""
            )
        client.set_model_version_tag(name, str(champion), ROLLED_BACK, datetime.now(UTC).isoformat(timespec="seconds"))
        client.set_registered_model_alias(name, CHAMPION, str(previous))
        client.delete_registered_model_alias(name, PREVIOUS)
    return previous, champion


def _named(version: int | None) -> str:
    return "none" if version is None else f"version {version}"
