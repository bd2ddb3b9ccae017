"""Numbers and names as a reader wants them."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

LISTED_VALUES = 10


def as_text(value: object) -> str:
    """A number as a reader wants it: ``"1,200"``, ``"0.890"``, ``"yes"``, ``"not defined"``; text as it is."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "not defined"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) >= 0.001 or value == 0 else f"{value:.3g}"
    if isinstance(value, list | tuple):
        if len(value) > LISTED_VALUES:
            return f"{len(value)} values"
        return ", ".join(as_text(item) for item in value)
    return str(value)


def spelled(name: object) -> str:
    """A key in words: ``"fitted_on.n_images"`` as ``"fitted on, n images"``."""
    return str(name).replace("_", " ").replace(".", ", ")


def value_of(measures: Mapping[str, Any], name: str, key: str = "value") -> float | None:
    """``value``, ``low`` or ``high`` of a measure; None where it is not defined or not there."""
    value = (measures.get(name) or {}).get(key)
    return None if value is None or math.isnan(value) else float(value)


def of_100(share: float) -> str:
    """``"83"`` for 0.828."""
    return f"{100 * share:.0f}"


def listed(words: Sequence[str]) -> str:
    """``"a, b and c"``."""
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def sources_named(names: Sequence[str]) -> str:
    """``"the sources “a” and “b”"``."""
    return f"the source{'s' if len(names) > 1 else ''} {listed([f'“{name}”' for name in names])}"
