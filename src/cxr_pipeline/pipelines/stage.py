"""Stages and their nodes."""

from collections.abc import Callable
from inspect import signature
from typing import Any

from kedro.pipeline import Node, Pipeline
from pydantic import BaseModel

__all__ = ["Pipeline", "node", "stage"]


def stage(name: str, *nodes: Node) -> Pipeline:
    """Combine nodes into a stage; its datasets belong to the task, not to the stage."""
    return Pipeline(list(nodes), namespace=name, prefix_datasets_with_namespace=False)


def node(function: Callable[..., Any], outputs: str | list[str] | None, **datasets: str) -> Node:
    """Create a node with the name of its function.

    A parameter of the function is the dataset of that name or, if its type is a block of parameters, the block of that
    name (``params:training`` for ``training: Training``). ``datasets`` has the names that differ from the parameter's.

    Example:
        >>> from cxr_pipeline.framework.config import Training
        >>> def fit(manifest: dict[str, str], training: Training) -> str: ...
        >>> node(fit, "model").inputs
        ['manifest', 'params:training']
    """
    inputs = {
        name: datasets.get(name, f"params:{name}" if _is_block(parameter.annotation) else name)
        for name, parameter in signature(function).parameters.items()
    }
    return Node(function, inputs=inputs or None, outputs=outputs, name=function.__name__)


def _is_block(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
