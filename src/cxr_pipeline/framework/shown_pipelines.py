"""The pipelines that kedro-viz shows: fewer than are registered, and without a box around the whole task."""

import inspect
import warnings
from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from kedro.pipeline import Node, Pipeline
from kedro.pipeline.preview_contract import TextPreview

# The environment variable in which kedro viz names the pipeline to open, for the processes that it starts; empty for
# that of the first task.
OPENED = "CXR_PIPELINE_VIZ"


class _Shown(Node):
    """A node in the box of its stage, with the name that it has in kedro run."""

    def __init__(self, node: Node, namespace: str | None) -> None:
        super().__init__(
            node.func,
            node.inputs or None,
            node.outputs or None,
            name=node.short_name,
            namespace=namespace,
            preview_fn=partial(TextPreview, inspect.getdoc(node.func) or ""),
        )
        self._full_name = node.name

    @property
    def name(self) -> str:
        return self._full_name


def shown_pipelines(
    pipelines: Mapping[str, Pipeline], tasks: Sequence[str], others: Iterable[str], opened: str
) -> dict[str, Pipeline]:
    """Return the pipelines to list: those of all tasks, the other pipelines of one task, and the comparison.

    The other pipelines of two tasks differ in parameters and previews only.

    Args:
        pipelines: All pipelines.
        tasks: The names of the tasks, which are also those of their pipelines.
        others: What follows the name of a task in the names of its other pipelines.
        opened: The name of the pipeline to open; its task is the one whose other pipelines are listed. Empty for the
            first task.
    """
    opened = opened or tasks[0]
    others_of = {task: [f"{task}_{other}" for other in others] for task in tasks}
    task = next((task for task in tasks if opened in (task, *others_of[task])), tasks[0])
    names = {"__default__": opened} | {name: name for name in (*tasks, *others_of[task], "comparison")}
    return {name: _without_task(pipelines[pipeline]) for name, pipeline in names.items()}


def _without_task(pipeline: Pipeline) -> Pipeline:
    """Return a pipeline whose nodes are in boxes of their stages or, if there is one stage, in no box."""
    stages = {node: (node.namespace or "").partition(".")[2] or None for node in pipeline.nodes}
    one = len(set(stages.values())) == 1
    with warnings.catch_warnings():
        # Names with a task that is no namespace of their node, and previews of nodes, which Kedro calls experimental.
        warnings.simplefilter("ignore")
        return Pipeline([_Shown(node, None if one else stage) for node, stage in stages.items()])
