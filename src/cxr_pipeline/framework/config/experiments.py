"""Parameters of experiments: the cells of an ablation, hyperparameter search, and how both share machines."""

import math
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from inspect import isclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SecretStr, TypeAdapter, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.common.mappings import flatten, lay_over
from cxr_pipeline.experiments.cells import cross
from cxr_pipeline.framework.config.data import Morphology, Resampling, Resolution
from cxr_pipeline.framework.config.parameters import Parameters, Seed, without_nulls
from cxr_pipeline.framework.config.training import Augmentation, Evaluation, Network, Thresholds, Training

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
    """Parallel execution of the cells of an experiment, and of the networks of an ensemble.

    The networks of an ensemble are trained one after the other unless ``scheduler`` or ``workers`` is given.

    Args:
        scheduler: address of a Dask scheduler whose workers see the same folders; null for this machine.
        workers: number of parallel processes on this machine; null for as many as cores and memory allow.
        memory_gb (GiB): memory of a process.
    """

    scheduler: str | None
    workers: Annotated[int, Field(ge=1)] | None
    memory_gb: Annotated[float, Field(gt=0)]

    @property
    def is_requested(self) -> bool:
        """Whether the number or the place of parallel processes is given."""
        return self.scheduler is not None or self.workers is not None


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


class LearningCurve(Parameters):
    """Trainings on growing numbers of patients; see `nested_subsets` and `analyse`.

    Args:
        sizes: numbers of patients, growing geometrically to all.
        draws: random choices of patients for each size; each is measured on another fold of as many.
        full: train as the task does, instead of the head of a pretrained network alone.
        seed: seed of the choice of patients and of the intervals.
    """

    sizes: Annotated[int, Field(ge=2, le=50)]
    draws: Annotated[int, Field(ge=2, le=50)]
    full: bool
    seed: Seed


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


# Trials are compared by the metric of the selected epoch, so the rule that selects it must be the same in all trials.
NOT_SEARCHED = ("training.monitor", "training.tolerance")
AXES = ({"low", "high"}, {"low", "high", "log"}, {"low", "high", "step"}, {"choices"})

Axis = dict[str, Any]


class MedianPruner(Parameters):
    """Prune a trial that is worse than the median of earlier ones at the same epoch; see Optuna's ``MedianPruner``."""

    name: Literal["median"]
    n_startup_trials: Annotated[int, Field(ge=0)] = 5
    n_warmup_steps: Annotated[int, Field(ge=0)] = 4


class NoPruner(Parameters):
    """Prune no trial."""

    name: Literal["none"]


class Tuning(Parameters):
    """A study.

    Args:
        n_trials: number of trials that end with a value or are pruned, over all runs of the study.
        folds: ``training.folds`` of the trials; with several, the value of a trial is the mean over its networks.
        storage: URL of its database, which may contain a password and is never shown; null for an SQLite file of this
            project.
        seed: seed of the sampler.
        pruner: rule that ends trials early: ``{name: none}``, or ``median`` with ``n_startup_trials`` and
            ``n_warmup_steps``; see Optuna's ``MedianPruner``.
        space: axis of each parameter, nested like the parameters: ``low``, ``high`` and optionally ``log`` or ``step``;
            or ``choices``. Null disables an axis.
    """

    n_trials: Annotated[int, Field(ge=1, le=10_000)]
    folds: Annotated[int, Field(ge=1, le=20)]
    storage: SecretStr | None
    seed: Seed
    pruner: Annotated[MedianPruner | NoPruner, Field(discriminator="name")]
    space: dict[str, Axis]

    @field_validator("space", mode="before")
    @classmethod
    def _axes_of_parameters(cls, space: object) -> dict[str, Axis]:
        if not isinstance(space, Mapping):
            raise ValueError(f"expected parameters and their axes, found {space!r}")
        axes = {name: _checked(name, axis) for name, axis in _axes(space, "")}
        if not axes:
            raise ValueError("expected at least one parameter to search over, found none")
        return axes


def _fields(block: type[Parameters]) -> dict[str, Any]:
    """Return the fields of a block, nested like its parameters."""
    kinds = {name: field.annotation for name, field in block.model_fields.items()}
    nested = {name: _fields(kind) for name, kind in kinds.items() if isclass(kind) and issubclass(kind, Parameters)}
    return {**block.model_fields, **nested}


# Decision rules and the bootstrap do not change the metric of a trial.
_SEARCHED: dict[str, FieldInfo] = flatten(
    {name: fields for name, fields in _fields(CellBlocks).items() if name not in ("thresholds", "evaluation")}
)


def _axes(block: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Yield each axis of a nested space that is not null, with its dotted name."""
    for key, value in block.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and not {"low", "high", "choices"} & value.keys():
            yield from _axes(value, f"{name}.")
        elif value is not None:
            yield name, value


def _checked(name: str, axis: object) -> Axis:
    """Return the axis of a dotted parameter, with its values validated by the field of the parameter."""
    if name in NOT_SEARCHED:
        raise ValueError(f"{name} defines the value of a trial and cannot be searched over; remove it from the space")
    if name not in _SEARCHED:
        close = get_close_matches(name, _SEARCHED, n=1)
        hint = f" (did you mean {close[0]}?)" if close else f"; expected one of {', '.join(_SEARCHED)}"
        raise ValueError(f"no parameter {name} can be searched over{hint}")
    if not isinstance(axis, Mapping) or set(axis) not in AXES:
        raise ValueError(f"{name}: expected low and high, optionally log or step, or choices; found {axis!r}")
    return _choices(name, axis["choices"]) if "choices" in axis else _range(name, axis)


def _choices(name: str, choices: Any) -> Axis:
    if not isinstance(choices, list | tuple) or not choices:
        raise ValueError(f"{name}: expected a list of choices, found {choices!r}")
    if any(isinstance(choice, list | tuple | Mapping) for choice in choices):
        raise ValueError(f"{name}: expected choices that are numbers, text, true, false or null, found {choices!r}")
    validated = [_validated(name, choice) for choice in choices]
    if len(set(map(repr, validated))) < len(validated):
        raise ValueError(f"{name}: expected distinct choices, found {choices!r}")
    return {"choices": validated}


def _range(name: str, axis: Mapping[str, Any]) -> Axis:
    low, high = (_validated(name, axis[end]) for end in ("low", "high"))
    step, log = axis.get("step"), axis.get("log", False)
    for given, value in ((axis["low"], low), (axis["high"], high)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"{name}: expected numbers for low and high, found {given!r}; use choices instead")
    if low >= high:
        raise ValueError(f"{name}: expected low below high, found low {low} and high {high}")
    if not isinstance(log, bool) or (log and low <= 0):
        raise ValueError(f"{name}: expected log to be true or false, and low above 0 if it is true; found {dict(axis)}")
    if step is None:
        return {"low": low, "high": high, **({"log": True} if log else {})}
    if isinstance(step, bool) or not isinstance(step, type(low) | int) or not 0 < step <= high - low:
        kind = "an integer" if isinstance(low, int) else "a number"
        raise ValueError(f"{name}: expected step to be {kind} above 0 and at most high - low, found {step!r}")
    return {"low": low, "high": high, "step": step}


def _validated(name: str, value: object) -> Any:
    """Return a value validated by the field of a parameter."""
    field = _SEARCHED[name]
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(Annotated[field.annotation, field])  # type: ignore[arg-type]
        return adapter.validate_python(value)
    except ValidationError as error:
        text = error.errors()[0]["msg"].removeprefix("Value error, ").removeprefix("Input ")
        raise ValueError(f"{name}: {text}, found {value!r}") from error
