"""The aliases of a registered model: champion, previous, challenger and reference.

Aliases are moved in an order in which there is always a champion, and an interrupted move can be repeated.
"""

from datetime import UTC, datetime

import mlflow

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.tracking.server import exclusive

# REFERENCE is the version that new images are compared with.
CHAMPION, PREVIOUS, CHALLENGER, REFERENCE = ALIASES = ("champion", "previous", "challenger", "reference")
ROLLED_BACK = "rolled_back"


def model_name(task: str, *, phantom: bool) -> str:
    """Return the name of a task's registered model and of its experiment; models of phantoms have their own.

    Example:
        >>> model_name("effusion", phantom=True)
        'cxr-effusion-demo'
    """
    return f"cxr-{task}-demo" if phantom else f"cxr-{task}"


def task_and_environment(name: str) -> tuple[str, str]:
    """Return the task of a registered model, and the option of the ``kedro`` command for its environment.

    Example:
        >>> task_and_environment("cxr-effusion-demo")
        ('effusion', ' --env demo')
    """
    return name.removeprefix("cxr-").removesuffix("-demo"), " --env demo" if name.endswith("-demo") else ""


def aliases_of(name: str) -> dict[str, int | None]:
    """Return the version number of each alias of a registered model, None where the alias or the model is missing."""
    models = mlflow.search_registered_models(filter_string=f"name='{name}'")
    aliases = models[0].aliases if models else {}
    return {alias: int(aliases[alias]) if alias in aliases else None for alias in ALIASES}


def promote(name: str, version: int, *, over: int | None) -> dict[str, int | None]:
    """Make a version the champion, and the champion the previous one; return the aliases afterwards.

    An older challenger loses its alias.

    Raises:
        UserError: The champion is no longer ``over``, with which the version was compared (None: with none).
    """
    client = mlflow.MlflowClient()
    with exclusive(mlflow.get_tracking_uri()):
        aliases = aliases_of(name)
        champion, challenger = aliases[CHAMPION], aliases[CHALLENGER]
        if champion != over:
            raise UserError(
                f"The champion of {name} was {_describe(over)} when version {version} was evaluated, and is "
                f"{_describe(champion)} now. No alias was moved. Run the same command again to compare with the "
                "current champion; the trained challenger is reused."
            )
        if champion is not None and champion != version:
            client.set_registered_model_alias(name, PREVIOUS, str(champion))
        client.set_registered_model_alias(name, CHAMPION, str(version))
        if challenger is not None and challenger <= version:
            client.delete_registered_model_alias(name, CHALLENGER)
        client.delete_model_version_tag(name, str(version), ROLLED_BACK)
    return aliases_of(name)


def keep_as_challenger(name: str, version: int) -> dict[str, int | None]:
    """Give a version the alias challenger, unless it is the champion, and return the aliases afterwards."""
    with exclusive(mlflow.get_tracking_uri()):
        if aliases_of(name)[CHAMPION] != version:
            mlflow.MlflowClient().set_registered_model_alias(name, CHALLENGER, str(version))
    return aliases_of(name)


def set_reference(name: str, version: int) -> None:
    """Set the version that new images are compared with."""
    mlflow.MlflowClient().set_registered_model_alias(name, REFERENCE, str(version))


def roll_back(name: str) -> tuple[int, int]:
    """Restore the previous champion; the current one is tagged ``rolled_back`` and loses its aliases. Return both.

    Raises:
        UserError: There is no previous champion.
    """
    client = mlflow.MlflowClient()
    with exclusive(mlflow.get_tracking_uri()):
        aliases = aliases_of(name)
        champion, previous = aliases[CHAMPION], aliases[PREVIOUS]
        if previous == champion is not None:  # a promotion or a rollback was killed between two aliases
            client.delete_registered_model_alias(name, PREVIOUS)
            previous = None
        if champion is None or previous is None:
            task, env = task_and_environment(name)
            versions = client.search_model_versions(f"name='{name}'")
            withdrawn = [
                (version.tags[ROLLED_BACK], version.version) for version in versions if ROLLED_BACK in version.tags
            ]
            last = "version {1} was rolled back on {0}".format(*max(withdrawn)) if withdrawn else "none was rolled back"
            raise UserError(
                f"{name} has no earlier champion to roll back to; the champion is {_describe(champion)}, and {last}. "
                f"To use another version: kedro promote {task} VERSION{env}"
            )
        client.set_model_version_tag(name, str(champion), ROLLED_BACK, datetime.now(UTC).isoformat(timespec="seconds"))
        if aliases[REFERENCE] == champion:
            client.delete_registered_model_alias(name, REFERENCE)
        client.set_registered_model_alias(name, CHAMPION, str(previous))
        client.delete_registered_model_alias(name, PREVIOUS)
    return previous, champion


def _describe(version: int | None) -> str:
    return "none" if version is None else f"version {version}"
