"""The search for better parameters: how many trials, where they are kept, and what may vary."""

import math
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, TypeAdapter, ValidationError, field_validator
from pydantic.fields import FieldInfo

from cxr_pipeline.common.mappings import flatten
from cxr_pipeline.framework.config.images import Augmentation, Morphology, Resampling, Resolution
from cxr_pipeline.framework.config.parameters import Parameters, Seed
from cxr_pipeline.framework.config.training import Network, Training

SEARCHED: dict[str, type[Parameters]] = {
    "model": Network,
    "training": Training,
    "resampling": Resampling,
    "augmentation": Augmentation,
    "morphology": Morphology,
    "resolution": Resolution,
}
# Trials are compared by the metric of the epoch that is kept, so what defines it is the same in all of them.
THE_SAME_IN_ALL_TRIALS = ("training.monitor", "training.tolerance")
AXES = ({"low", "high"}, {"low", "high", "log"}, {"low", "high", "step"}, {"choices"})

Axis = dict[str, Any]


class MedianPruner(Parameters):
    """Ends a trial whose best value so far is below the median of earlier trials at the same epoch.

    Args:
        n_startup_trials: trials that are never pruned, the first ones.
        n_warmup_steps: the first epoch in which a trial is judged.
    """

    name: Literal["median"]
    n_startup_trials: Annotated[int, Field(ge=0)] = 5
    n_warmup_steps: Annotated[int, Field(ge=0)] = 4


class HyperbandPruner(Parameters):
    """Runs brackets of successive halving (Li et al., 2018).

    Args:
        min_resource: epochs that every trial gets.
        max_resource: epochs of a whole trial, over all phases.
        reduction_factor: of so many trials one goes on.
    """

    name: Literal["hyperband"]
    min_resource: Annotated[int, Field(ge=1)] = 1
    max_resource: Annotated[int, Field(ge=1)]
    reduction_factor: Annotated[int, Field(ge=2)] = 3


class NoPruner(Parameters):
    """Every trial runs to its end."""

    name: Literal["none"]


class Tuning(Parameters):
    """A study.

    Args:
        n_trials: trials that end with a value or are pruned, over all runs of the same study.
        storage: URL of the database that keeps it; null for an SQLite file of this project. It may hold a password,
            so that it is shown nowhere.
        seed: of the sampler.
        space: dotted parameter to its axis: ``low``, ``high`` and perhaps ``log`` or ``step``; or ``choices``.
            Written nested, as the parameters themselves are; an axis that is null is left out.
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
    """Each axis of a nested space by its dotted name; what is null is left out."""
    for key, value in block.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and not {"low", "high", "choices"} & value.keys():
            yield from _axes(value, f"{name}.")
        elif value is not None:
            yield name, value


def _checked(name: str, axis: object) -> Axis:
    """The axis with its values as the parameter's own field takes them.

    Raises:
        ValueError: there is no such parameter, or it cannot have these values.
    """
    if name in THE_SAME_IN_ALL_TRIALS:
        raise ValueError(f"{name} decides what a trial is worth and cannot be searched over; take it out of the space")
    field = _field(name)
    if not isinstance(axis, Mapping) or set(axis) not in AXES:
        raise ValueError(f"{name} wants low and high, perhaps with log or step, or choices; found {_shown(axis)}")
    return _choices(name, field, axis["choices"]) if "choices" in axis else _range(name, field, axis)


def _choices(name: str, field: FieldInfo, choices: Any) -> Axis:
    if not isinstance(choices, list | tuple) or not choices:
        raise ValueError(f"{name}: expected a list of choices, found {choices!r}")
    if any(isinstance(choice, list | tuple | Mapping) for choice in choices):
        raise ValueError(f"{name}: choices are numbers, words, true, false or null, found {choices!r}")
    taken = [_as_field(name, field, choice) for choice in choices]
    if len(set(map(repr, taken))) < len(taken):
        raise ValueError(f"{name}: expected choices that differ, found {choices!r}")
    return {"choices": taken}


def _range(name: str, field: FieldInfo, axis: Mapping[str, Any]) -> Axis:
    low, high = (_number(name, field, axis[end]) for end in ("low", "high"))
    step, log = axis.get("step"), axis.get("log", False)
    if low >= high:
        raise ValueError(f"{name}: low must be below high, found low {low} and high {high}")
    if not isinstance(log, bool):
        raise ValueError(f"{name}: log is true or false, found {log!r}")
    if log and low <= 0:
        raise ValueError(f"{name}: on a logarithmic axis low must be above 0, found {low}")
    if step is None:
        return {"low": low, "high": high, **({"log": True} if log else {})}
    if isinstance(step, bool) or not isinstance(step, type(low) | int) or not 0 < step <= high - low:
        raise ValueError(f"{name}: step must be {_kind(low)} above 0 and at most high - low, found {step!r}")
    return {"low": low, "high": high, "step": step}


def _number(name: str, field: FieldInfo, value: object) -> int | float:
    taken = _as_field(name, field, value)
    if isinstance(taken, bool) or not isinstance(taken, int | float) or not math.isfinite(taken):
        raise ValueError(f"{name}: low and high are numbers; for {value!r} write choices")
    return taken


def _as_field(name: str, field: FieldInfo, value: object) -> Any:
    """The value as the parameter's own field reads it."""
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(Annotated[field.annotation, field])  # type: ignore[arg-type]
        return adapter.validate_python(value)
    except ValidationError as error:
        text = error.errors()[0]["msg"].removeprefix("Value error, ").removeprefix("Input ")
        raise ValueError(f"{name}: {text}, found {value!r}") from error


def _field(name: str) -> FieldInfo:
    """The field of a dotted parameter.

    Raises:
        ValueError: there is none.
    """
    known = dict(_fields(SEARCHED, ""))
    if name not in known:
        close = get_close_matches(name, known, n=1)
        hint = f" (did you mean {close[0]}?)" if close else f"; there are {', '.join(known)}"
        raise ValueError(f"no parameter {name} can be searched over{hint}")
    return known[name]


def _fields(blocks: Mapping[str, type[Parameters]], prefix: str) -> Iterator[tuple[str, FieldInfo]]:
    """Every field of the blocks, those of nested blocks too, by its dotted name."""
    for block, model in blocks.items():
        for key, field in model.model_fields.items():
            name, kind = f"{prefix}{block}.{key}", field.annotation
            if isinstance(kind, type) and issubclass(kind, Parameters):
                yield from _fields({key: kind}, f"{prefix}{block}.")
            else:
                yield name, field


def _kind(low: float) -> str:
    return "a whole number" if isinstance(low, int) else "a number"


def _shown(axis: object) -> str:
    return ", ".join(flatten(axis)) or "nothing" if isinstance(axis, Mapping) else repr(axis)
