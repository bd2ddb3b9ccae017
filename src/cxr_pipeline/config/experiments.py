"""Experiments: which cells an ablation has, and how cells share machines."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError

from cxr_pipeline.config.decisions import Evaluation, Thresholds
from cxr_pipeline.config.films import Augmentation, Morphology, Resampling, Resolution
from cxr_pipeline.config.parameters import Parameters, without_nulls
from cxr_pipeline.config.training import Model, Training
from cxr_pipeline.errors import UserError
from cxr_pipeline.experiments.cells import cross
from cxr_pipeline.nesting import lay_over

# The blocks of a task that a cell may override.
BLOCKS: dict[str, type[Parameters]] = {
    "resolution": Resolution,
    "morphology": Morphology,
    "resampling": Resampling,
    "augmentation": Augmentation,
    "model": Model,
    "training": Training,
    "thresholds": Thresholds,
    "evaluation": Evaluation,
}

CellName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_ .+-]*$", max_length=60)]
Overrides = dict[str, Any]
Cells = Annotated[dict[CellName, Overrides], BeforeValidator(without_nulls)]


class Parallel(Parameters):
    """How cells of an experiment share machines.

    Args:
        scheduler: address of a Dask scheduler whose workers see the same folders; null for this machine.
        workers: cells at a time on this machine; null for as many as cores and memory allow.
        memory_gb: memory that a cell needs, in GiB.
    """

    scheduler: str | None
    workers: Annotated[int, Field(ge=1)] | None
    memory_gb: Annotated[float, Field(gt=0)]


class Ablation(Parameters):
    """Cells that differ in a few parameters, compared with one of them.

    Args:
        baseline: name of the cell that the others are compared with; null for the first.
        common: what all cells override, nested as in the task's block.
        cells: what each cell overrides beside; a cell that is null is switched off, and so are all of them.
        grid: factors, their levels by name, and what each level overrides; every combination is a cell, called
            after its levels.
    """

    baseline: str | None
    common: Overrides
    cells: Cells | None
    grid: Annotated[dict[str, Cells], BeforeValidator(without_nulls)] | None

    def overrides(self) -> dict[str, Overrides]:
        """What each cell overrides, by its name, the baseline first."""
        named = {**(self.cells or {}), **(cross(self.grid) if self.grid else {})}
        ordered = sorted(named, key=lambda name: name != self.baseline)
        return {name: lay_over(self.common, named[name]) for name in ordered}


def check_cells(task: str, parameters: Mapping[str, Any], ablation: Ablation) -> list[Model]:
    """Look, before any work, for cells that cannot be run.

    Args:
        task: name of the task.
        parameters: all parameters of the task.
        ablation: the cells.

    Returns:
        the network of each cell.

    Raises:
        UserError: there are no cells, no such baseline, or parameters of one that do not exist or have no such value.
    """
    cells, key = ablation.overrides(), f"{task}.ablation"
    if not cells:
        raise UserError(
            f"{key} has no cells to run. Name some under {key}.cells in conf/base/parameters/tasks.yml, such as "
            "without_augmentation: {augmentation: {views: 0}}."
        )
    if ablation.baseline is not None and ablation.baseline not in cells:
        raise UserError(f"{key}.baseline: expected one of the cells {', '.join(cells)}, found {ablation.baseline!r}.")
    for name, overrides in cells.items():
        check_overrides(f"{key}, cell {name!r}", parameters, overrides)
    return [Model.model_validate(lay_over(parameters["model"], cell.get("model", {}))) for cell in cells.values()]


def check_overrides(where: str, parameters: Mapping[str, Any], overrides: Mapping[str, Any]) -> None:
    """Make sure that parameters laid over those of a task are still parameters.

    Args:
        where: named in the message.
        parameters: all parameters of the task.
        overrides: nested below its block.

    Raises:
        UserError: a parameter does not exist or has a value that it cannot have.
    """
    for block, changes in overrides.items():
        if block not in BLOCKS:
            raise UserError(f"{where}: expected parameters below {', '.join(BLOCKS)}, found {block!r}.")
        try:
            BLOCKS[block].model_validate(lay_over(parameters[block], changes))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join([block, *map(str, first["loc"])])
            raise UserError(f"{where}: {place}: {first['msg']}, found {first['input']!r}.") from error
