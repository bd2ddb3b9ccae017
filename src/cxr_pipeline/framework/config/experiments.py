"""Parameters of experiments: the cells of an ablation, and how cells share machines."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.common.mappings import lay_over
from cxr_pipeline.experiments.cells import cross
from cxr_pipeline.framework.config.data import Morphology, Resampling, Resolution
from cxr_pipeline.framework.config.evaluation import Evaluation, Thresholds
from cxr_pipeline.framework.config.parameters import Parameters, without_nulls
from cxr_pipeline.framework.config.training import Augmentation, Network, Training

CellName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_ .+-]*$", max_length=60)]
Overrides = dict[str, Any]
Cells = Annotated[dict[CellName, Overrides], BeforeValidator(without_nulls)]


class CellBlocks(Parameters):
    """Blocks of a task that a cell may override."""

    model: Network
    training: Training
    resampling: Resampling
    augmentation: Augmentation
    morphology: Morphology
    resolution: Resolution
    thresholds: Thresholds
    evaluation: Evaluation


class Parallel(Parameters):
    """Parallel execution of the cells of an experiment.

    Args:
        scheduler: address of a Dask scheduler whose workers see the same folders; null for this machine.
        workers: number of parallel cells on this machine; null for as many as cores and memory allow.
        memory_gb: memory of a cell, in GiB.
    """

    scheduler: str | None
    workers: Annotated[int, Field(ge=1)] | None
    memory_gb: Annotated[float, Field(gt=0)]


class Ablation(Parameters):
    """Cells that differ in a few parameters, and the baseline that they are compared with.

    Args:
        baseline: name of the baseline; null for the first cell.
        common: parameters that all cells override, nested as in the task's block.
        cells: further parameters that each cell overrides; null disables a cell, or all cells.
        grid: factors with their levels by name, and the parameters that each level overrides; every combination is a
            cell, named after its levels.
    """

    baseline: str | None
    common: Overrides
    cells: Cells
    grid: Annotated[dict[CellName, Cells], BeforeValidator(without_nulls)]

    def overrides(self) -> dict[str, Overrides]:
        """Return the parameters that each cell overrides, the baseline first."""
        named = {**self.cells, **self._crossed()}
        ordered = sorted(named, key=lambda name: name != self.baseline)
        return {name: lay_over(self.common, named[name]) for name in ordered}

    def _crossed(self) -> dict[str, Overrides]:
        # A factor without enabled levels is disabled.
        factors = {factor: levels for factor, levels in self.grid.items() if levels}
        return cross(factors) if factors else {}

    @model_validator(mode="after")
    def _names_are_unique(self) -> "Ablation":
        twice = sorted(self._crossed().keys() & self.cells.keys())
        if twice:
            raise ValueError(
                f"cells and grid both have a cell named {', '.join(map(repr, twice))}; rename the cell or the level"
            )
        return self


def check_cells(task: str, parameters: Mapping[str, Any], ablation: Ablation) -> dict[str, CellBlocks]:
    """Check that all cells of an ablation can be run, before any work is done.

    Returns:
        The blocks of each cell by a phrase that names the cell in messages.

    Raises:
        UserError: there are no cells or no such baseline, or a cell has an unknown parameter or an invalid value.
    """
    cells, key = ablation.overrides(), f"{task}.ablation"
    if not cells:
        raise UserError(
            f"{key} has no cells. Add some to {key}.cells in conf/base/parameters/tasks.yml, such as "
            "without_augmentation: {augmentation: {views: 0}}."
        )
    if ablation.baseline is not None and ablation.baseline not in cells:
        raise UserError(f"{key}.baseline: expected one of the cells {', '.join(cells)}, found {ablation.baseline!r}.")
    check_overrides(task, parameters, {})
    named = {f"{key}, cell {name!r}": overrides for name, overrides in cells.items()}
    return {where: check_overrides(where, parameters, overrides) for where, overrides in named.items()}


def check_overrides(where: str, parameters: Mapping[str, Any], overrides: Mapping[str, Any]) -> CellBlocks:
    """Check the parameters of a task with some of them overridden; ``where`` names the cell or the task in messages.

    Raises:
        UserError: a parameter is unknown or has an invalid value, overridden or not.
    """
    names = CellBlocks.model_fields
    for block, changes in overrides.items():
        if block not in names:
            raise UserError(f"{where}: expected parameters below {', '.join(names)}, found {block!r}.")
        if not isinstance(changes, Mapping):
            raise UserError(
                f"{where}: {block}: expected parameters and their values, found {changes!r}. Add the parameters to "
                f"override, or remove {block}."
            )
    changed = lay_over(parameters, overrides)
    try:
        return CellBlocks.model_validate({name: changed[name] for name in names})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise UserError(f"{where}: {place}: {first['msg']}, found {first['input']!r}.") from error
