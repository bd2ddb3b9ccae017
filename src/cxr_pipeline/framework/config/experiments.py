"""Experiments: which cells an ablation has, and how cells share machines."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.common.mappings import lay_over
from cxr_pipeline.experiments.cells import cross
from cxr_pipeline.framework.config.decisions import Evaluation, Thresholds
from cxr_pipeline.framework.config.images import Augmentation, Morphology, Resampling, Resolution
from cxr_pipeline.framework.config.parameters import Parameters, without_nulls
from cxr_pipeline.framework.config.training import Network, Training

# The blocks of a task that a cell may override.
BLOCKS: dict[str, type[Parameters]] = {
    "resolution": Resolution,
    "morphology": Morphology,
    "resampling": Resampling,
    "augmentation": Augmentation,
    "model": Network,
    "training": Training,
    "thresholds": Thresholds,
    "evaluation": Evaluation,
}

CellName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_ .+-]*$", max_length=60)]
Overrides = dict[str, Any]
Blocks = dict[type[Parameters], Any]
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
    grid: Annotated[dict[CellName, Cells], BeforeValidator(without_nulls)] | None

    def overrides(self) -> dict[str, Overrides]:
        """What each cell overrides, by its name, the baseline first."""
        named = {**(self.cells or {}), **self._crossed()}
        ordered = sorted(named, key=lambda name: name != self.baseline)
        return {name: lay_over(self.common, named[name]) for name in ordered}

    def _crossed(self) -> dict[str, Overrides]:
        """The cells of the grid; a factor whose levels are all switched off is switched off."""
        factors = {factor: levels for factor, levels in (self.grid or {}).items() if levels}
        return cross(factors) if factors else {}

    @model_validator(mode="after")
    def _no_name_twice(self) -> "Ablation":
        twice = sorted(self._crossed().keys() & (self.cells or {}).keys())
        if twice:
            raise ValueError(
                f"cells and grid both have a cell named {', '.join(map(repr, twice))}; give the cell or the level "
                "another name"
            )
        return self


def check_cells(task: str, parameters: Mapping[str, Any], ablation: Ablation) -> dict[str, Blocks]:
    """Look, before any work, for cells that cannot be run.

    Args:
        task: name of the task.
        parameters: all parameters of the task.
        ablation: the cells.

    Returns:
        the blocks of each cell, by words that name the cell in a message.

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
    check_overrides(task, parameters, {})
    named = {f"{key}, cell {name!r}": overrides for name, overrides in cells.items()}
    return {where: check_overrides(where, parameters, overrides) for where, overrides in named.items()}


def check_overrides(where: str, parameters: Mapping[str, Any], overrides: Mapping[str, Any]) -> Blocks:
    """Make sure that parameters laid over those of a task are still parameters.

    Args:
        where: named in the message.
        parameters: all parameters of the task.
        overrides: nested below its block.

    Returns:
        the blocks that may be overridden, as they then are, by type.

    Raises:
        UserError: a parameter does not exist or has a value that it cannot have, overridden or not.
    """
    for block, changes in overrides.items():
        if block not in BLOCKS:
            raise UserError(f"{where}: expected parameters below {', '.join(BLOCKS)}, found {block!r}.")
        if not isinstance(changes, Mapping):
            raise UserError(
                f"{where}: {block}: expected parameters and their values, found {changes!r}. Name those that it "
                f"overrides below {block}, or leave {block} out."
            )
    changed = lay_over(parameters, overrides)
    return {block: _valid(where, name, changed[name]) for name, block in BLOCKS.items()}


def _valid(where: str, name: str, values: object) -> Parameters:
    try:
        return BLOCKS[name].model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join([name, *map(str, first["loc"])])
        raise UserError(f"{where}: {place}: {first['msg']}, found {first['input']!r}.") from error
