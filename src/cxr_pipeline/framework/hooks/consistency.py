"""Stop runs that would combine files of different runs, such as a network and images prepared for another one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog
from kedro.pipeline import Node

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.common.mappings import json_digest
from cxr_pipeline.common.origins import Origins, content_digest
from cxr_pipeline.framework.hooks.runs import Configured, parameter_blocks, plain, task_of_node


class Consistency(Configured):
    """Records the origin of each dataset, and compares the origins of the inputs of each node.

    A partial run (``--from-nodes``) reads files that earlier runs wrote, perhaps with other parameters. The record of a
    file contains the digests of everything that it was made from, including parameters.
    """

    @hook_impl
    def after_catalog_created(self, catalog: DataCatalog) -> None:
        """Store the catalog, which is not an argument of `after_dataset_saved`."""
        self._catalog = catalog
        self._origins: dict[str, Origins] = {}
        self._made_from: dict[str, dict[str, str]] = {}

    @hook_impl
    def before_node_run(self, node: Node, inputs: dict[str, Any]) -> None:
        """Compare the inputs of a node.

        Raises:
            UserError: they come from different runs.
        """
        task = task_of_node(node)
        if task is None:
            return
        try:
            made_from = self._of_task(task).check(self._digests(inputs))
            if "parameters" in inputs:
                check_parameters(made_from, inputs["parameters"])
        except UserError as error:
            raise UserError(
                f"{error} The files of {task} come from different runs: another pipeline or other parameters replaced "
                f"some of them. Run the whole pipeline: {self.run_command(task)}"
            ) from error
        self._made_from[node.name] = made_from

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, node: Node) -> None:
        """Record the origin of a dataset."""
        path = self._path(dataset_name)
        if path is not None and node.name in self._made_from:
            origins = self._of_task(dataset_name.split(".")[0])
            origins.add(dataset_name, content_digest(path), self._made_from[node.name])

    def _digests(self, inputs: Mapping[str, Any]) -> dict[str, str]:
        digests = {name: json_digest(block) for name, block in parameter_blocks(inputs).items()}
        files = {name: path for name in inputs if (path := self._path(name)) is not None and path.exists()}
        return digests | {name: content_digest(path) for name, path in files.items()}

    def _path(self, name: str) -> Path | None:
        return getattr(self._catalog.get(name), "_filepath", None)

    def _of_task(self, task: str) -> Origins:
        if task not in self._origins:
            self._origins[task] = Origins(self.task_folder(task) / "origins.json")
        return self._origins[task]


def check_parameters(made_from: Mapping[str, str], parameters: Mapping[str, Any]) -> None:
    """Check that the inputs of a node were made with the parameters of this run.

    Args:
        made_from: digest by name, of parameters as ``params:effusion.training``.
        parameters: all parameters of this run, nested.

    Raises:
        UserError: a block of parameters has changed.
    """
    for name, digest in made_from.items():
        if name.startswith("params:"):
            value: Any = parameters
            for key in name.removeprefix("params:").split("."):
                value = value.get(key) if isinstance(value, Mapping) else getattr(value, key, None)
            if json_digest(plain(value)) != digest:
                raise UserError(f"The parameters {name.removeprefix('params:')} have changed since they were used.")
