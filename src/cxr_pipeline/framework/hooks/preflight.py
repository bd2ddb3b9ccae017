"""Checks before any work."""

from collections.abc import Mapping
from contextlib import nullcontext
from itertools import product
from pathlib import Path
from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.common.mappings import nest
from cxr_pipeline.data import sources
from cxr_pipeline.data.pretraining import read_list
from cxr_pipeline.data.sources.folders import find_images
from cxr_pipeline.data.sources.pseudonyms import key_fingerprint
from cxr_pipeline.evaluation.decision_rule import check_policy
from cxr_pipeline.framework.config import Ablation, Drift, Folders, Network, Scoring, Sources, Task, Thresholds, Tuning
from cxr_pipeline.framework.config.experiments import CellBlocks, check_cells, check_overrides
from cxr_pipeline.framework.config.network import read_card
from cxr_pipeline.framework.hooks.runs import Configured, task_of, tasks_of
from cxr_pipeline.framework.invalid_parameters import check_parameters
from cxr_pipeline.tracking import server
from cxr_pipeline.training.networks.weights import (
    FROZEN,
    PATCH,
    SMALL_NETWORKS,
    SMALLEST_SIZES,
    TRANSFORMER,
    check_weights,
    is_pretrained,
    is_version,
)

# Parameters of a search that decide whether a network can be trained.
SEARCHED = ("model.name", "model.weights", "resolution.size", "training.fine_tuning.cut")


class Preflight(Configured):
    """Stops a run before any work if MLflow, sources, the network, policies or a key would cause an error later."""

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Connect to MLflow, and check the parameters of this run against the files on disk."""
        if len(tasks := tasks_of(pipeline)) > 1:
            commands = " && ".join(self.run_command(name) for name in sorted(run_params["pipeline_names"]))
            raise UserError(f"A run has one task, found {' and '.join(tasks)}. Start a run for each: {commands}")
        if not self.cell:  # the parameters of a run that another run started were checked there
            given = self._config_loader.runtime_params or {}
            check_parameters(self._config_loader["parameters"], given, task_of(pipeline))
        names = sorted(name for name in pipeline.inputs() if name.startswith("params:"))
        blocks = {type(block): block for block in map(catalog.load, names)}
        stages = {node.namespace.rpartition(".")[2] for node in pipeline.nodes if node.namespace}
        if Scoring in blocks:
            find_images(blocks[Scoring].folder, key=f"{blocks[Task].name}.scoring.folder")
        if stages == {"drift"} and blocks[Drift].source is None:
            find_images(blocks[Drift].folder, key=f"{blocks[Task].name}.drift.folder")
        project = self._config_loader["globals"]
        server.connect(project["tracking_uri"], artifacts=project["artifacts"])
        # Scoring and drift do not read sources.
        if not {Task, Folders} <= set(blocks) or Scoring in blocks or stages == {"drift"}:
            return
        task, raw = blocks[Task], blocks[Folders].raw
        if Sources in blocks:
            for name, source in blocks[Sources].root.items():
                sources.check_source(name, source.layout, raw / source.path, classes=task.classes, task=task.name)
        parameters = self._config_loader["parameters"][task.name]
        if Thresholds in blocks or Network in blocks:
            _check(task, raw, check_overrides(task.name, parameters, {}))
        if Ablation in blocks:
            _check_ablation(blocks[Ablation], parameters, task, raw)
        if Tuning in blocks:
            _check_tuning(blocks[Tuning], parameters, task, raw)
        if "registration" in stages:
            key_fingerprint(blocks[Folders].patient_key, make=True)


def _check(task: Task, raw: Path, blocks: CellBlocks) -> None:
    """Check that threshold policies fit the kind of task, and that the network can be trained."""
    for policy in (blocks.thresholds.policy, *blocks.thresholds.compared):
        check_policy(policy.model_dump(), task.kind)
    size, tuning = blocks.resolution.size, blocks.training.fine_tuning
    if blocks.model.name in FROZEN and tuning.epochs > 0:
        raise UserError(
            f"{task.name}.training.fine_tuning.epochs is {tuning.epochs}, but of {blocks.model.name} only the head can "
            f"be trained. Set it to 0: --params {task.name}.training.fine_tuning.epochs=0"
        )
    check_network(blocks.model, size=size, cut=tuning.cut, raw=raw, task=task.name)


def check_network(network: Network, *, size: int, cut: str | None, raw: Path, task: str) -> None:
    """Check the size of the images, the weights, and the layer from which a pretrained backbone is fine-tuned."""
    name, weights = network.name, network.weights
    if size < SMALLEST_SIZES[name]:
        raise UserError(
            f"{task}.resolution.size is {size}, but {name} needs images of at least {SMALLEST_SIZES[name]} pixels per "
            f"side. Increase it, or use a network for small images: --params {task}.model.name=small_cnn"
        )
    if name in SMALL_NETWORKS and (network.normalisation or is_version(weights)):
        raise UserError(
            f"{task}.model has weights or a normalisation for them, but {name} takes no pretrained weights. Set "
            "model.weights to none and model.normalisation to null, or use another network, such as densenet121."
        )
    if name in FROZEN and weights == "none":
        raise UserError(f"{task}.model.weights is none, but {name} needs a file: see docs/guides/networks.md.")
    if name == TRANSFORMER and size % PATCH:
        raise UserError(f"{task}.resolution.size is {size}, but {name} needs a multiple of {PATCH}, such as 224.")
    check_weights(name, weights, raw, task=task)
    if not is_pretrained(name, weights) or (weights == "imagenet" and cut is None):
        return
    # Only now, because it takes seconds.
    from cxr_pipeline.training.networks.build import build_model
    from cxr_pipeline.training.phases import cut_layer

    with nullcontext() if weights == "imagenet" else network.open_weights(raw) as file:
        if file is not None:
            for entry in read_card(file).lists.values():
                read_list(file.parent / entry)
        cut_layer(build_model(name=name, weights_file=file, size=size, cut=cut), cut)


def _check_ablation(ablation: Ablation, parameters: Mapping[str, Any], task: Task, raw: Path) -> None:
    for cell, blocks in check_cells(task.name, parameters, ablation).items():
        try:
            _check(task, raw, blocks)
        except UserError as error:
            raise UserError(f"{cell}: {error}") from error


def _check_tuning(tuning: Tuning, parameters: Mapping[str, Any], task: Task, raw: Path) -> None:
    """Check that the network of each trial can be trained, and that the study's database can be used."""
    # The smallest value of a range is the one that may be too small.
    axes = {name: axis.get("choices", [axis.get("low")]) for name, axis in tuning.space.items() if name in SEARCHED}
    for values in product(*axes.values()):
        _check(task, raw, check_overrides(task.name, parameters, nest(dict(zip(axes, values, strict=True)))))
    if tuning.storage:
        from cxr_pipeline.experiments.search import check_storage

        check_storage(tuning.storage.get_secret_value())
