"""Parameters of the hyperparameter search, and its search space."""

import math
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, TypeAdapter, ValidationError, field_validator
from pydantic.fields import FieldInfo

from cxr_pipeline.framework.config.experiments import BLOCKS
from cxr_pipeline.framework.config.parameters import Parameters, Seed

# Decision rules and the bootstrap do not change the metric of a trial.
SEARCHED = {name: block for name, block in BLOCKS.items() if name not in ("thresholds", "evaluation")}
# Trials are compared by the metric of the selected epoch, so the rule that selects it must be the same in all trials.
NOT_SEARCHED = ("training.monitor", "training.tolerance")
AXES = ({"low", "high"}, {"low", "high", "log"}, {"low", "high", "step"}, {"choices"})

Axis = dict[str, Any]


class MedianPruner(Parameters):
    """Prune a trial whose best value so far is worse than the median of earlier trials at the same epoch.

    Args:
        n_startup_trials: number of first trials that are never pruned.
        n_warmup_steps: number of epochs before which a trial is not pruned.
    """

    name: Literal["median"]
    n_startup_trials: Annotated[int, Field(ge=0)] = 5
    n_warmup_steps: Annotated[int, Field(ge=0)] = 4


class HyperbandPruner(Parameters):
    """Prune by brackets of successive halving.

    Args:
        min_resource: number of epochs of every trial.
        max_resource: number of epochs of a complete trial, over all phases.
        reduction_factor: one of this many trials continues.

    References:
        Li et al., "Hyperband: a novel bandit-based approach to hyperparameter optimization", JMLR 18, 2018.
    """

    name: Literal["hyperband"]
    min_resource: Annotated[int, Field(ge=1)] = 1
    max_resource: Annotated[int, Field(ge=1)]
    reduction_factor: Annotated[int, Field(ge=2)] = 3


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
    pruner: Annotated[MedianPruner | HyperbandPruner | NoPruner, Field(discriminator="name")]
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


def _axes(block: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Yield each axis of a nested space that is not null, with its dotted name."""
    for key, value in block.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and not {"low", "high", "choices"} & value.keys():
            yield from _axes(value, f"{name}.")
        elif value is not None:
            yield name, value


def _checked(name: str, axis: object) -> Axis:
    """Return the axis with its values validated by the field of the parameter.

    Raises:
        ValueError: the parameter does not exist or cannot have these values.
    """
    if name in NOT_SEARCHED:
        raise ValueError(f"{name} defines the value of a trial and cannot be searched over; remove it from the space")
    field = _field(name)
    if not isinstance(axis, Mapping) or set(axis) not in AXES:
        raise ValueError(f"{name}: expected low and high, optionally log or step, or choices; found {axis!r}")
    return _choices(name, field, axis["choices"]) if "choices" in axis else _range(name, field, axis)


def _choices(name: str, field: FieldInfo, choices: Any) -> Axis:
    if not isinstance(choices, list | tuple) or not choices:
        raise ValueError(f"{name}: expected a list of choices, found {choices!r}")
    if any(isinstance(choice, list | tuple | Mapping) for choice in choices):
        raise ValueError(f"{name}: expected choices that are numbers, text, true, false or null, found {choices!r}")
    taken = [_as_field(name, field, choice) for choice in choices]
    if len(set(map(repr, taken))) < len(taken):
        raise ValueError(f"{name}: expected distinct choices, found {choices!r}")
    return {"choices": taken}


def _range(name: str, field: FieldInfo, axis: Mapping[str, Any]) -> Axis:
    low, high = (_number(name, field, axis[end]) for end in ("low", "high"))
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


def _number(name: str, field: FieldInfo, value: object) -> int | float:
    taken = _as_field(name, field, value)
    if isinstance(taken, bool) or not isinstance(taken, int | float) or not math.isfinite(taken):
        raise ValueError(f"{name}: expected numbers for low and high, found {value!r}; use choices instead")
    return taken


def _as_field(name: str, field: FieldInfo, value: object) -> Any:
    """Return the value validated by the field of the parameter."""
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(Annotated[field.annotation, field])  # type: ignore[arg-type]
        return adapter.validate_python(value)
    except ValidationError as error:
        text = error.errors()[0]["msg"].removeprefix("Value error, ").removeprefix("Input ")
        raise ValueError(f"{name}: {text}, found {value!r}") from error


def _field(name: str) -> FieldInfo:
    """Return the field of a dotted parameter.

    Raises:
        ValueError: there is no such parameter.
    """
    known = dict(_fields(SEARCHED, ""))
    if name not in known:
        close = get_close_matches(name, known, n=1)
        hint = f" (did you mean {close[0]}?)" if close else f"; expected one of {', '.join(known)}"
        raise ValueError(f"no parameter {name} can be searched over{hint}")
    return known[name]


def _fields(blocks: Mapping[str, type[Parameters]], prefix: str) -> Iterator[tuple[str, FieldInfo]]:
    """Yield every field of the blocks and of their nested blocks with its dotted name."""
    for block, model in blocks.items():
        for key, field in model.model_fields.items():
            name, kind = f"{prefix}{block}.{key}", field.annotation
            if isinstance(kind, type) and issubclass(kind, Parameters):
                yield from _fields({key: kind}, f"{prefix}{block}.")
            else:
                yield name, field
