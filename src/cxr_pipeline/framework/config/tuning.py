"""Parameters of the hyperparameter search, and its search space."""

import math
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from inspect import isclass
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, TypeAdapter, ValidationError, field_validator
from pydantic.fields import FieldInfo

from cxr_pipeline.common.mappings import flatten
from cxr_pipeline.framework.config.experiments import CellBlocks
from cxr_pipeline.framework.config.parameters import Parameters, Seed

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
        storage: URL of its database, which may contain a password and is never shown; null for an SQLite file of this
            project.
        seed: seed of the sampler.
        pruner: rule that ends trials early.
        space: dotted parameter to its axis: ``low``, ``high`` and optionally ``log`` or ``step``; or ``choices``.
            In the configuration it is nested like the parameters, and null disables an axis.
    """

    n_trials: Annotated[int, Field(ge=1, le=10_000)]
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
    for given, value in ((axis["low"], low), (axis["high"], high)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"{name}: expected numbers for low and high, found {given!r}; use choices instead")
    step, log = axis.get("step"), axis.get("log", False)
    if low >= high:
        raise ValueError(f"{name}: expected low below high, found low {low} and high {high}")
    if not isinstance(log, bool):
        raise ValueError(f"{name}: expected log to be true or false, found {log!r}")
    if log and low <= 0:
        raise ValueError(f"{name}: expected low above 0 on a logarithmic axis, found {low}")
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
