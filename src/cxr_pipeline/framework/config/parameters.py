"""Common parts of all blocks of parameters."""

from collections.abc import Callable, Mapping
from inspect import signature
from typing import Annotated, Any, Literal, Union

from pydantic import BaseModel, ConfigDict, Field, GetPydanticSchema, create_model

Fraction = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]
ClassName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_ -]*$")]
Seed = Annotated[int, Field(ge=0, lt=2**31)]


class Parameters(BaseModel):
    """A block of parameters: immutable, without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def variants(base: type[Parameters], tag: str, functions: Mapping[str, Callable[..., object]]) -> GetPydanticSchema:
    """Create a block for each of several functions or dataclasses, and validate values of type ``base`` by them.

    The arguments of a function, with annotations and defaults, are the parameters of its block, except a folder or
    image. ``base`` has the parameters that all blocks share, among them ``tag``, which chooses the function by its name
    in ``functions``.

    Example:
        >>> from pydantic import TypeAdapter
        >>> class Step(Parameters):
        ...     name: str
        >>> def blur(folder: str, *, width: int = 3) -> None: ...
        >>> AnyStep = Annotated[Step, variants(Step, "name", {"blur": blur})]
        >>> TypeAdapter(AnyStep).validate_python({"name": "blur"})
        Step_blur(name='blur', width=3)
    """
    blocks = []
    for name, function in functions.items():
        fields: dict[str, Any] = {tag: (Literal[name], ...)}
        for argument in signature(function).parameters.values():
            if argument.name not in ("folder", "image"):
                default = ... if argument.default is argument.empty else argument.default
                fields[argument.name] = (argument.annotation, default)
        block = create_model(f"{base.__name__}_{name}", __base__=base, __module__=__name__, **fields)
        # A block is pickled by the name of its class in this module.
        globals()[block.__name__] = block
        blocks.append(block)
    union: Any = Annotated[Union[tuple(blocks)], Field(discriminator=tag)]  # noqa: UP007
    return GetPydanticSchema(lambda _, handler: handler(union))


def plain(block: Any) -> Any:
    """Return a block of parameters, or a single parameter, in JSON types."""
    return block.model_dump(mode="json") if isinstance(block, BaseModel) else block


def without_nulls(block: object) -> object:
    """Remove the entries of a mapping that a later environment has set to null; null itself is an empty mapping."""
    block = {} if block is None else block
    return {name: value for name, value in block.items() if value is not None} if isinstance(block, dict) else block
