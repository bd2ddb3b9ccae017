"""What would stop a run later is looked for before any work."""

from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline

from cxr_pipeline import sources
from cxr_pipeline.config import Ablation, Folders, Model, Scoring, Sources, Task, Thresholds, Tuning
from cxr_pipeline.config.experiments import check_cells
from cxr_pipeline.decision_rule import check_policy
from cxr_pipeline.hooks.runs import Configured
from cxr_pipeline.models.weights import check_weights
from cxr_pipeline.sources.pseudonyms import key_fingerprint


class Preflight(Configured):
    """Looks, before any work, for what would stop the run later: films, weights, policies, a key."""

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Check the parameters that this run uses against what is on disk; scoring and drift read no source.

        Raises:
            UserError: a source or the weights are not there, a policy does not fit the kind of task, or there is no
                place for the key that patients are hashed with.
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
        if Thresholds in found:
            for policy in (found[Thresholds].policy, *found[Thresholds].compared):
                check_policy(policy.model_dump(), task.kind)
        if Ablation in found:
            for model in check_cells(task.name, self._config_loader["parameters"][task.name], found[Ablation]):
                check_weights(model.name, model.weights, raw, task=task.name)
        if Tuning in found and found[Tuning].storage:
            from cxr_pipeline.experiments.search import check_storage

            check_storage(found[Tuning].storage.get_secret_value())
        if "registration" in stages:
            key_fingerprint(found[Folders].patient_key, make=True)
        if Model in found:
            check_weights(found[Model].name, found[Model].weights, raw, task=task.name)
