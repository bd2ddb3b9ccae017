"""Nested mappings of parameters: merge, flatten to dotted names, compute digests, hide passwords."""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

# A password may contain an @, and also a / if the text before it is not a port.
_PASSWORD = re.compile(r"(:/+[^/\s:@]*:)(?:[^/\s]+@|(?!\d+/)[^\s@]+@)")


def lay_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two nested mappings; values of the upper one override those of the lower one.

    Example:
        >>> lay_over({"a": {"x": 1, "y": 2}}, {"a": {"y": 3}})
        {'a': {'x': 1, 'y': 3}}
    """
    merged = {**below, **above}
    for key in below.keys() & above.keys():
        if isinstance(below[key], Mapping) and isinstance(above[key], Mapping):
            merged[key] = lay_over(below[key], above[key])
    return merged


def flatten(block: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten a nested mapping to dotted names.

    Example:
        >>> flatten({"training": {"epochs": 3, "fine_tuning": {"cut": "x"}}})
        {'training.epochs': 3, 'training.fine_tuning.cut': 'x'}
    """
    flat: dict[str, Any] = {}
    for key, value in block.items():
        name = f"{prefix}{key}"
        flat |= flatten(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return flat


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Convert a mapping of dotted names to a nested mapping: the inverse of `flatten`."""
    nested: dict[str, Any] = {}
    for name, value in flat.items():
        for key in reversed(name.split(".")):
            value = {key: value}
        nested = lay_over(nested, value)
    return nested


def json_digest(value: object) -> str:
    """Return the SHA-256 of the JSON form of a value, independent of the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def hide_passwords(value: Any) -> Any:
    """Replace the password in every address by ``***``, at any depth of mappings and lists.

    Example:
        >>> hide_passwords({"storage": ["postgresql://user:secret@host/studies"]})
        {'storage': ['postgresql://user:***@host/studies']}
    """
    if isinstance(value, Mapping):
        return {name: hide_passwords(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(hide_passwords, value))
    return _PASSWORD.sub(r"\1***@", value) if isinstance(value, str) else value
