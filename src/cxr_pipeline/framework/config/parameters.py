"""What every block of parameters has in common."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]
ClassName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_ -]*$")]
Seed = Annotated[int, Field(ge=0, lt=2**31)]


class Parameters(BaseModel):
    """A block of parameters: immutable, and closed to keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def without_nulls(block: object) -> object:
    """Leave out the entries of a mapping that a later environment has switched off with null."""
    return {name: value for name, value in block.items() if value is not None} if isinstance(block, dict) else block
