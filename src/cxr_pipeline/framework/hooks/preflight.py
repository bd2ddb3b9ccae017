"""What would stop a run later is looked for before any work."""

from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data import sources
from cxr_pipeline.data.sources.pseudonyms import key_fingerprint
from cxr_pipeline.evaluation.decision_rule import check_policy
from cxr_pipeline.framework.config import Ablation, Folders, Network, Scoring, Sources, Task, Thresholds, Tuning
from cxr_pipeline.framework.config.experiments import check_cells, check_overrides
from cxr_pipeline.framework.hooks.runs import Configured
from cxr_pipeline.training.networks.weights import check_weights


class Preflight(Configured):
    """Looks, before any work, for what would stop the run later: images, weights, policies, a key."""

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Check the parameters that this run uses against what is on disk; scoring and drift read no source.

        Raises:
            UserError: a source or the weights are not there, a policy does not fit the kind of task, a cell or trial
                could not be run, or there is no place for the key that patients are hashed with.
        """
        names = sorted(name for name in pipeline.inputs() if name.startswith("params:"))
        found = {type(value): value for value in map(catalog.load, names)}
        stages = {node.namespace.rpartition(".")[2] for node in pipeline.nodes if node.namespace}
        if not {Task, Folders} <= set(found) or Scoring in found or stages == {"drift"}:
            return
        task, raw = found[Task], found[Folders].raw
        if Sources in found:
            for name, source in found[Sources].root.items():
                sources.check_source(name, source.layout, raw / source.path, classes=task.classes, task=task.name)
        _check_fit(found, task, raw)
        if Ablation in found:
            _check_ablation(found[Ablation], self._config_loader["parameters"][task.name], task, raw)
        if Tuning in found:
            _check_tuning(found[Tuning], self._config_loader["parameters"][task.name], task, raw)
        if "registration" in stages:
            key_fingerprint(found[Folders].patient_key, make=True)


def _check_fit(blocks: Mapping[type, Any], task: Task, raw: Path) -> None:
    """Look for policies that do not fit the kind of task, and for weights that are not there."""
    if Thresholds in blocks:
        for policy in (blocks[Thresholds].policy, *blocks[Thresholds].compared):
            check_policy(policy.model_dump(), task.kind)
    if Network in blocks:
        check_weights(blocks[Network].name, blocks[Network].weights, raw, task=task.name)


def _check_ablation(ablation: Ablation, parameters: Mapping[str, Any], task: Task, raw: Path) -> None:
    for where, blocks in check_cells(task.name, parameters, ablation).items():
        try:
            _check_fit(blocks, task, raw)
        except UserError as error:
            raise UserError(f"{where}: {error}") from error


def _check_tuning(tuning: Tuning, parameters: Mapping[str, Any], task: Task, raw: Path) -> None:
    """Look for parameters that no trial could be run with, and for a database that cannot be used."""
    model = check_overrides(task.name, parameters, {})[Network]
    searched = [
        tuning.space.get(f"model.{key}", {}).get("choices", [getattr(model, key)]) for key in ("name", "weights")
    ]
    for name, weights in product(*searched):
        check_weights(name, weights, raw, task=task.name)
    if tuning.storage:
        from cxr_pipeline.experiments.search import check_storage

        check_storage(tuning.storage.get_secret_value())
