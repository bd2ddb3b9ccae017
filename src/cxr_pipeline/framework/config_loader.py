"""The tasks, and the merging of their parameters."""

from pathlib import Path
from typing import Any

from kedro.config import OmegaConfigLoader
from omegaconf import OmegaConf
from yaml.reader import ReaderError

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.common.files import explain_damage
from cxr_pipeline.common.mappings import lay_over

TASKS = ("effusion", "pneumonia", "ailments", "findings", "abnormality", "chest14")


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
                with explain_damage(file, "Expected YAML in UTF-8, with keys and values."):
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
        for name in ("defaults", *TASKS):
            if not isinstance(config.get(name), dict | None):
                raise UserError(f"{name}: expected a block of parameters, found {config[name]!r}.")
        defaults = config.pop("defaults", None) or {}
        tasks = {task: lay_over(defaults, config.get(task) or {}) for task in TASKS}
        return config | {task: block for task, block in tasks.items() if block}
