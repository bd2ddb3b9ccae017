"""The tasks, and the merging of their parameters."""

import re
import warnings
from pathlib import Path
from typing import Any

import yaml
from kedro.config import OmegaConfigLoader
from kedro.framework.project import settings
from kedro.utils import find_kedro_project
from omegaconf import OmegaConf
from yaml.reader import ReaderError

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.common.files import explain_damage
from cxr_pipeline.common.mappings import lay_over

# Kedro calls a function of OmegaConf that is deprecated, which users can do nothing about.
warnings.filterwarnings("ignore", "register_new_resolver", UserWarning)

_SUFFIXES = (".yml", ".yaml", ".json")
_EXPECTED = "Expected YAML in UTF-8, with keys and values."


def configuration() -> Path:
    """Return the folder of the configuration of the project of the working directory."""
    return Path(find_kedro_project(Path.cwd()) or Path.cwd(), settings.CONF_SOURCE)


def check_name(name: str, file: Path | None = None) -> None:
    """Raise `UserError` if a pipeline cannot have the name of a task, which is in ``file``."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
        raise UserError(
            f"{f'{file}: ' if file else ''}'{name}' cannot be the name of a task. Expected letters, digits and "
            "underscores, beginning with a letter."
        )


def task_names(conf: str | Path | None = None) -> tuple[str, ...]:
    """Return the names of the tasks: of all parameters with a block ``task`` in any environment, ``base`` first.

    Kedro asks for the pipelines before it knows the environment of a run.

    Args:
        conf: folder of the configuration, by default `configuration()`.

    Raises:
        UserError: a file is not YAML, or a task has a name that a pipeline cannot have.
    """
    conf = Path(conf or configuration())
    files = {file.relative_to(conf).parts: file for file in conf.rglob("*") if file.suffix in _SUFFIXES}
    names: dict[str, Path] = {}
    for parts in sorted(files, key=lambda parts: (parts[0] != "base", parts)):
        if any(part.startswith("parameters") for part in parts[1:]):
            with explain_damage(files[parts], _EXPECTED):
                blocks = yaml.load(files[parts].read_bytes(), yaml.CSafeLoader)  # noqa: S506: a subclass of SafeLoader
            if isinstance(blocks, dict):
                tasks = [name for name, block in blocks.items() if isinstance(block, dict) and "task" in block]
                names |= {str(name): files[parts] for name in tasks if name not in names}
    for name, file in names.items():
        check_name(name, file)
    return tuple(names)


class TaskConfigLoader(OmegaConfigLoader):
    """Lays each task's block over the block ``defaults`` of the same environment.

    A value of a task is the last one given of: base defaults, base task, environment defaults, environment task,
    command line.
    """

    def _read_dir_configs(self, conf_path: str, *arguments: Any) -> Any:
        try:
            return super()._read_dir_configs(conf_path, *arguments)
        except (OSError, UnicodeError, ReaderError, AttributeError, AssertionError):  # none names the file
            for file in sorted(Path(conf_path).rglob("*.yml")):
                with explain_damage(file, _EXPECTED):
                    OmegaConf.merge({}, OmegaConf.load(file))
            raise

    def _merge_and_resolve(self, key: str, config_per_file: Any) -> dict[str, Any]:
        try:
            config: dict[str, Any] = super()._merge_and_resolve(key, config_per_file)
        except TypeError as error:  # OmegaConf names neither the key nor the value
            raise UserError(
                f"{key}: a list or value cannot replace a block of parameters, in --params or below conf/. Name a "
                "parameter of the block, such as effusion.training.epochs=3."
            ) from error
        if key != "parameters":
            return config
        names = task_names(self.conf_source)
        for name in ("defaults", *names):
            if not isinstance(config.get(name), dict | None):
                raise UserError(f"{name}: expected a block of parameters, found {config[name]!r}.")
        defaults = config.pop("defaults", None) or {}
        tasks = {task: lay_over(defaults, config.get(task) or {}) for task in names}
        for task, block in tasks.items():
            if isinstance(block.get("task"), dict):
                block["task"].setdefault("name", task)
        return config | {task: block for task, block in tasks.items() if block}
