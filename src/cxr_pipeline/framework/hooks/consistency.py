"""Stop runs that would combine files of different runs, such as a network and images prepared for another one."""

import hashlib
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog
from kedro.pipeline import Node, Pipeline
from pydantic import TypeAdapter

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.common.files import written_atomically
from cxr_pipeline.common.mappings import json_digest
from cxr_pipeline.framework.config import plain
from cxr_pipeline.framework.hooks.runs import Configured, parameter_blocks, task_of, task_of_node

# Keras writes the time of saving into this member, so that equal models give different files.
_TIMESTAMPED = "metadata.json"


class Consistency(Configured):
    """Records what each dataset was made from, including parameters, and compares this for the inputs of each node.

    A partial run (``--from-nodes``) reads files that earlier runs wrote, perhaps with other parameters.
    """

    # Last, so that the lock of the task is held.
    @hook_impl(trylast=True)
    def before_pipeline_run(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Read the record of the task."""
        self._catalog = catalog
        self._made_from: dict[str, dict[str, str]] = {}
        # A large file may be an input of many nodes. It is read again only if its size or time of change differs.
        self._digests: dict[tuple[Any, ...], str] = {}
        task = task_of(pipeline)
        if task is not None:
            self._origins = Origins(self.task_folder(task) / "origins.json")

    @hook_impl
    def before_node_run(self, node: Node, inputs: dict[str, Any]) -> None:
        """Stop if the inputs of a node come from different runs."""
        task = task_of_node(node)
        if task is None:
            return
        digests = {name: json_digest(block) for name, block in parameter_blocks(inputs).items()}
        files = {name: path for name in inputs if (path := self._path(name)) is not None and path.exists()}
        try:
            made_from = self._origins.check(digests | {name: self._digest(path) for name, path in files.items()})
            if "parameters" in inputs:
                self._check_parameters(made_from, task, inputs["parameters"][task])
        except UserError as error:
            raise UserError(
                f"{error} The files of {task} come from different runs: another pipeline or other parameters "
                f"replaced some of them. Run the whole pipeline: {self.run_command(task)}"
            ) from error
        self._made_from[node.name] = made_from

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, node: Node) -> None:
        """Record the origin of a dataset."""
        path = self._path(dataset_name)
        if path is not None and node.name in self._made_from:
            self._origins.add(dataset_name, self._digest(path), self._made_from[node.name])

    def _path(self, name: str) -> Path | None:
        return getattr(self._catalog.get(name), "_filepath", None)

    def _digest(self, path: Path) -> str:
        stats = {file: file.stat() for file in (path, *sorted(path.glob("*")))}
        state = tuple((file, stat.st_size, stat.st_mtime_ns) for file, stat in stats.items())
        if state not in self._digests:
            self._digests[state] = content_digest(path)
        return self._digests[state]

    def _check_parameters(self, made_from: Mapping[str, str], task: str, blocks: Mapping[str, Any]) -> None:
        """Check that the inputs of a node that reports all parameters were made with those of this run."""
        for name, block in blocks.items():
            digest = made_from.get(f"params:{task}.{name}")
            if digest is not None and digest != json_digest(plain(block)):
                raise UserError(f"The parameters {task}.{name} have changed since they were used.")


@dataclass(frozen=True)
class Origin:
    """Digest of a saved dataset, and of all datasets that it was made from, directly or indirectly."""

    digest: str
    inputs: dict[str, str]


_RECORD = TypeAdapter(dict[str, Origin])


class Origins:
    """The origins of the datasets of a task, kept in a JSON file. A missing or damaged file is an empty record."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._origins = _RECORD.validate_json(path.read_bytes())
        except (OSError, ValueError):
            self._origins = {}

    def add(self, name: str, digest: str, inputs: Mapping[str, str]) -> None:
        """Record a dataset that was just saved, with what `check` returned for its inputs."""
        self._origins[name] = Origin(digest, dict(inputs))
        with written_atomically(self._path) as temporary:
            temporary.write_bytes(_RECORD.dump_json(self._origins, indent=1))

    def check(self, inputs: Mapping[str, str]) -> dict[str, str]:
        """Return the digests of datasets, given by their current ones, and of all that they were made from.

        `UserError` is raised if two versions of a dataset were used, or if one has changed since it was recorded. A
        dataset without a record, such as one that a user provided, passes.
        """
        digests = dict(inputs)
        user = {name: name for name in inputs}
        for name, digest in inputs.items():
            origin = self._origins.get(name)
            if origin is None:
                continue
            if origin.digest != digest:
                change = f"{origin.digest:.8}, now {digest:.8}"
                raise UserError(f"{name} has changed since a run recorded its origin ({change}).")
            for ancestor, version in origin.inputs.items():
                other, current = user.setdefault(ancestor, name), digests.setdefault(ancestor, version)
                if current == version:
                    continue
                if other == ancestor:
                    mine = f"{name} was made from another version of {ancestor} ({version:.8})"
                    raise UserError(f"{mine} than the current one ({current:.8}).")
                both = f"{other} and {name} were made from different versions of {ancestor}"
                raise UserError(f"{both} ({current:.8} and {version:.8}).")
        return digests


def content_digest(path: Path) -> str:
    """Return the SHA-256 of a file, or of the names and contents of all files in a folder, in hexadecimal digits.

    That of a ``.keras`` archive covers the content of its members, not the time of saving.
    """
    digest = hashlib.sha256()
    if path.is_dir():
        for file in sorted(entry for entry in path.iterdir() if entry.is_file()):
            digest.update(f"{file.name} {content_digest(file)}\n".encode())
    elif path.suffix == ".keras" and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for member in sorted(archive.namelist()):
                if member != _TIMESTAMPED:
                    digest.update(f"{member} {hashlib.sha256(archive.read(member)).hexdigest()}\n".encode())
    else:
        with path.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    return digest.hexdigest()
