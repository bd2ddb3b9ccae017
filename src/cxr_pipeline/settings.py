"""Settings of Kedro for this project; see https://docs.kedro.org/en/stable/configure/project_settings/."""

from collections.abc import Iterator
from pathlib import Path

from kedro.utils import find_kedro_project
from omegaconf.resolvers import oc

from cxr_pipeline.framework.config_loader import TaskConfigLoader


class _Hooks:
    """The hooks of a session. They import MLflow, which takes seconds, so that they are not imported before."""

    def __iter__(self) -> Iterator[object]:
        from cxr_pipeline.framework.hooks import Consistency, Lifecycle, Preflight, Summary

        # Kedro calls the last one first: the preflight checks come before the lock and the MLflow run.
        return iter((Lifecycle(), Consistency(), Preflight(), Summary()))


HOOKS = _Hooks()

CONFIG_LOADER_CLASS = TaskConfigLoader
CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    "merge_strategy": {"parameters": "soft", "globals": "soft", "airflow": "soft"},
    "custom_resolvers": {
        "project_path": lambda: (find_kedro_project(Path.cwd()) or Path.cwd()).as_posix(),
        "oc.env": oc.env,
    },
}
