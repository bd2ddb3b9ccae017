"""What hooks ask about a run: its task, its images, its configuration."""

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline


class Configured:
    """A hook that looks the configuration up."""

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Remember the configuration."""
        self._config_loader = context.config_loader


def task_of(pipeline: Pipeline) -> str | None:
    """The task that a pipeline belongs to; None where it is of none, or of several."""
    tasks = {node.namespace.split(".")[0] for node in pipeline.nodes if node.namespace}
    return tasks.pop() if len(tasks) == 1 else None


def is_phantom(pipeline: Pipeline, catalog: DataCatalog) -> bool:
    """Whether any source of a pipeline's task is drawn."""
    name = f"params:{task_of(pipeline)}.sources"
    return name in catalog and bool(catalog.load(name).phantom)
