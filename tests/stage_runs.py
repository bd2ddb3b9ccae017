"""Run a stage through Kedro's runner."""

from collections.abc import Mapping
from typing import Any

from kedro.io import AbstractDataset, DataCatalog, MemoryDataset
from kedro.pipeline import Pipeline
from kedro.runner import SequentialRunner


def run_stage(
    stage: Pipeline, inputs: Mapping[str, Any], outputs: Mapping[str, AbstractDataset[Any, Any]]
) -> dict[str, Any]:
    """Run a stage on inputs in memory, or in datasets, and return its outputs as the datasets load them."""
    datasets = {
        name: value if isinstance(value, AbstractDataset) else MemoryDataset(value, copy_mode="assign")
        for name, value in inputs.items()
    }
    catalog = DataCatalog({**datasets, **outputs})
    SequentialRunner().run(stage, catalog)
    return {name: catalog.load(name) for name in outputs}
